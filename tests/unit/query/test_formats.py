"""What another stored format wrote is refused with a sentence that says what to do, and never read."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from k2.cli.commands import watch
from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.query.engine import Engine
from k2.query.errors import Unavailable, WrongFormat
from k2.query.iceberg import catalog, tables
from k2.query.kafka import kafka_reader
from k2.query.replay import source
from k2.query.replay.source import ReplayRange
from k2.query.sql.freshness import freshness
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.formats import FORMAT
from k2.schemas.records.trade import Side, Trade
from k2.schemas.tables import GOLD, GOLD_TABLE
from tests.unit.query.conftest import NOON, Append, stamp, trade

AT = 1_770_000_000_000_000
TOPIC = "market.crypto.trades.binance"
SENTENCE = "the table gold_crypto_trades has format {}, and this version of K2 reads and writes format 2; start with"
VALUE = avro.TradeEncoder(7).encode(Trade("1", "BTCUSDT", "BINANCE", "BTC", "USDT", AT, 1, 1, Side.SELL, AT))

Read = Callable[[Engine], Any]
READERS: list[Read] = [
    lambda engine: engine.trades(),
    lambda engine: engine.ohlcv(symbol="BTCUSDT"),
    lambda engine: engine.sql(f"SELECT count(*) FROM {GOLD}"),
    lambda engine: engine.execute(f"SELECT count(*) FROM {GOLD}", {GOLD: None}),
    lambda engine: engine.symbols(),
    lambda engine: engine.snapshots(),
    lambda engine: engine.topics(),
    lambda engine: list(source.trades(engine, "", ReplayRange(NOON - timedelta(days=1)))),
    lambda engine: freshness(engine.catalog, NOON),
    lambda engine: tables.ensure(engine.catalog, [GOLD_TABLE]),
]


@pytest.mark.parametrize(("number", "shown"), [(None, 1), (1, 1), (FORMAT + 1, 3)])
@pytest.mark.parametrize("read", READERS)
def test_a_table_of_another_format_is_refused_by_every_reader(
    engine: Engine, append: Append, layout: Layout, read: Read, number: int | None, shown: int
) -> None:
    append([trade(1)])
    read(engine)
    stamp(layout, number)
    with pytest.raises(WrongFormat, match=SENTENCE.format(shown)):
        read(engine)


@pytest.mark.parametrize("words", ["trades", "ohlcv --symbol BTCUSDT", "snapshots", "replay --start 2026-01-01T00:00Z"])
def test_commands_exit_with_2_and_one_sentence(append: Append, layout: Layout, words: str) -> None:
    append([trade(1)])
    stamp(layout, None)
    result = CliRunner().invoke(app, [*words.split(), "--data", str(layout.root)])
    assert (result.exit_code, len(result.stderr.splitlines()), result.stdout) == (2, 1, ""), result.output
    assert result.stderr.startswith(SENTENCE.format(1))


def test_watch_exits_with_2_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise WrongFormat(f"the topic {TOPIC} has format 1")

    monkeypatch.setattr(watch, "show", refused)
    result = CliRunner().invoke(app, ["watch", "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, result.stderr) == (2, f"the topic {TOPIC} has format 1\n")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """The schemas of the topic, by id, as the registry has them."""
    schemas: dict[int, str] = {}
    monkeypatch.setattr(kafka_reader, "SchemaCache", lambda *_: SimpleNamespace(schemas=lambda: schemas))
    monkeypatch.setattr(source, "SchemaCache", lambda *_: SimpleNamespace(schemas=lambda: schemas))
    return schemas


def message() -> Any:
    return SimpleNamespace(value=lambda: VALUE, key=lambda: b"BTCUSDT", timestamp=lambda: (0, AT // 1000))


def test_the_tail_refuses_a_topic_with_a_schema_of_another_format(registered: dict[int, str]) -> None:
    def validator() -> Any:
        return kafka_reader._TopicValidator(TRADES, SimpleNamespace(), TOPIC, "BINANCE")  # type: ignore[arg-type]

    registered |= {7: avro.text()}
    assert validator().validate(message()).price == 1
    registered |= {6: avro.text().replace('"k2.format": 2,', "")}
    with pytest.raises(WrongFormat, match=f"the topic {TOPIC} has format 1, and this version"):
        validator().validate(message())


def test_a_replay_of_bronze_refuses_it_too(registered: dict[int, str]) -> None:
    registered |= {7: avro.text().replace('"k2.format": 2,', '"k2.format": 3,')}
    with pytest.raises(WrongFormat, match=f"the topic {TOPIC} has format 3"):
        source._validators(SimpleNamespace(), "BINANCE")(TOPIC)  # type: ignore[arg-type]


def test_a_wrong_format_counts_as_unavailable() -> None:
    """Threads that follow Kafka, and the API's 503, handle it as such."""
    assert issubclass(WrongFormat, Unavailable)


def test_new_tables_carry_the_number(layout: Layout) -> None:
    layout.root.mkdir()
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        (gold,) = tables.ensure(opened, [GOLD_TABLE])
        assert gold.properties["k2.format"] == str(FORMAT)
        assert tables.load(opened, GOLD).name() == gold.name()
