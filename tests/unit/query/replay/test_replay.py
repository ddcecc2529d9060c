"""A replay returns the trades of a range in order, with their message ids, at the requested pace."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from k2.cli.embedded import state
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.registry import application
from k2.cli.embedded.schema_store import SchemaStore
from k2.cli.main import app
from k2.common.registry_connection import RegistryConnection
from k2.common.schema_registry import Registry
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.query.iceberg import catalog, tables
from k2.query.replay import Layer, pace, rows, source
from k2.query.replay.source import ReplayRange
from k2.query.replay.time_ranges import split_ranges
from k2.query.times import TimeRange
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.records.trade import Trade, message_id
from k2.schemas.values import to_micros
from tests.background_server import serve
from tests.unit.ingest.conftest import Broker
from tests.unit.query.conftest import NOON, Append, trade

HOUR = timedelta(hours=1)
NO_REGISTRY = "http://127.0.0.1:1"


def replayed(
    engine: Engine, *, start: datetime = NOON - 24 * HOUR, registry: str = NO_REGISTRY, **changes: Any
) -> list[Trade]:
    return list(source.trades(engine, RegistryConnection(registry), ReplayRange(start, **changes)))


def ids(trades: list[Trade]) -> list[str]:
    return [trade.trade_id for trade in trades]


def test_gold_is_replayed_in_order_with_all_fields_and_message_ids(engine: Engine, append: Append) -> None:
    append([trade(3, 5 * HOUR), trade(1), trade("x", 1, exchange="KRAKEN"), trade(2, 1, side="SELL")])
    replayed_trades = replayed(engine)
    assert ids(replayed_trades) == ["1", "2", "x", "3"]
    stored = engine.trades().to_pylist()
    assert [str(one.message_id) for one in replayed_trades] == [row["message_id"] for row in stored]
    table = rows.to_reader([replayed_trades]).read_all()
    assert table.to_pylist() == [row | {"vendor_data": '{"source":"live"}'} for row in stored]
    assert table.schema.types == engine.trades().schema.types


def test_the_longest_decimals_and_a_listing_are_replayed_exactly(engine: Engine, append: Append) -> None:
    """Decimal's default context would round to 28 digits."""
    most, least = Decimal(f"{10**26 - 1}.{10**12 - 1}"), Decimal("0.000000000001")
    row = trade(1, price=most, quantity=least, vendor_data=json.dumps({"source": "live", "listing": "2"}))
    row["message_id"] = str(message_id("BINANCE", "BTCUSDT", "1", 2))
    append([row])
    (before,) = replayed(engine)
    after = source.mark_replayed(before)
    assert (after.price, after.quantity, after.listing) == (10**38 - 1, 1, 2)
    assert str(after.message_id) == row["message_id"] != str(message_id("BINANCE", "BTCUSDT", "1"))
    (written,) = rows.to_reader([[after]]).read_all().to_pylist()
    assert (written["price"], written["quantity"], written["message_id"]) == (most, least, row["message_id"])


def test_a_listing_that_is_no_number_is_named(engine: Engine, append: Append) -> None:
    append([trade(1, vendor_data=json.dumps({"listing": "second"}))])
    with pytest.raises(BadQuery, match="a stored trade cannot be replayed: listing 'second'"):
        replayed(engine)


def test_only_the_source_of_a_replayed_trade_changes(engine: Engine, append: Append) -> None:
    append([trade(1, vendor_data=json.dumps({"pair": "BTCUSDT", "source": "live"}))])
    (before,) = replayed(engine)
    after = source.mark_replayed(before)
    assert dict(after.vendor_data) == {"pair": "BTCUSDT", "source": "replay"}
    assert after.message_id == before.message_id
    assert (after.timestamp, after.price, after.ingestion_timestamp) == (
        before.timestamp, before.price, before.ingestion_timestamp,
    )  # fmt: skip


def test_range_symbols_exchange_and_snapshot_select_trades(engine: Engine, append: Append) -> None:
    old = append([trade(n, n) for n in range(5)])
    append([trade(9, 2), trade(7, symbol="ETHUSDT"), trade(8, exchange="BYBIT")])
    assert ids(replayed(engine, start=NOON + timedelta(seconds=1), end=NOON + timedelta(seconds=3))) == ["1", "2", "9"]
    assert ids(replayed(engine, symbols=("ethusdt",))) == ["7"]
    assert ids(replayed(engine, symbols=("ETHUSDT", "BTCUSDT"), exchange="bybit")) == ["8"]
    assert ids(replayed(engine, as_of=old)) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": NOON + HOUR, "end": NOON}, "swap them"),
        ({"start": NOON + HOUR}, "there is nothing to replay: gold has no trade of any symbol from 2026-01-31T13:00"),
        ({"start": NOON, "end": NOON}, "there is nothing to replay"),
        ({"symbols": ("DOGE",)}, "is stored; available symbols: BTCUSDT"),
        ({"symbols": ("BTCUSDT", "DOGE")}, "is stored; available symbols: BTCUSDT"),
        ({"symbols": ("BTC/USD",)}, "did you mean BTCUSDT"),
        ({"exchange": "ftx"}, "is not an exchange"),
        ({"as_of": 1}, "has nothing as of the snapshot 1"),
        ({"layer": Layer.BRONZE}, "say which exchange"),
        ({"layer": Layer.BRONZE, "exchange": "okx"}, "there is no table"),
    ],
)
def test_an_empty_or_invalid_range_is_an_error_with_its_reason(
    engine: Engine, append: Append, changes, message
) -> None:
    append([trade(1)])
    with pytest.raises(BadQuery, match=message):
        replayed(engine, **changes)


def test_empty_years_between_two_trades_are_not_searched() -> None:
    covered = [TimeRange(NOON, NOON + timedelta(minutes=90)), TimeRange(NOON + 9000 * HOUR, NOON + 9001 * HOUR)]
    parts = list(split_ranges(covered, NOON + timedelta(minutes=30), None, HOUR))
    assert [(part.start - NOON) // timedelta(minutes=1) for part in parts] == [30, 60, 540_000]
    assert [(part.end - NOON) // timedelta(minutes=1) for part in parts] == [60, 90, 540_060]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, duration: float) -> None:
        self.slept.append(round(duration, 6))
        self.now += duration


@pytest.mark.parametrize(
    ("speed", "slept"), [("1", [10.0, 5.0]), ("10", [1.0, 0.5]), ("0.5", [20.0, 10.0]), ("max", []), ("0", [])]
)
def test_trades_are_released_when_due_in_chunks(engine: Engine, append: Append, speed: str, slept: list[float]) -> None:
    append([trade(1), trade(2), trade(3, 10), trade(4, 15)])
    clock = Clock()
    chunks = list(pace.paced(replayed(engine), pace.Pace(pace.parse_speed(speed), clock), clock.sleep))
    assert clock.slept == slept
    assert [ids(chunk) for chunk in chunks] == ([["1", "2"], ["3"], ["4"]] if slept else [["1", "2", "3", "4"]])


@pytest.mark.parametrize("text", ["-1", "fast", "1e3", "nan", "", "1x", "\u0661"])
def test_an_invalid_speed_is_an_error(text: str) -> None:
    with pytest.raises(BadQuery, match="is not a speed"):
        pace.parse_speed(text)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with serve(application(SchemaStore(tmp_path / "registry.db"))) as url:
        yield url


def test_bronze_is_replayed_in_arrival_order_without_invalid_records(
    engine: Engine, append: Append, layout: Layout, registry: str
) -> None:
    append([trade(n, n) for n in (1, 2)])
    stored = replayed(engine)
    schema_id = Registry(RegistryConnection(registry)).register(
        topics.subject("market.crypto.trades.binance"), avro.text()
    )
    values = [avro.TradeEncoder(schema_id).encode(one) for one in stored]
    records = [
        {
            "value": value, "key": b"BTCUSDT", "topic": "market.crypto.trades.binance", "partition": 0,
            "offset": offset, "kafka_timestamp": NOON + offset * HOUR, "bronze_timestamp": NOON,
        }
        for offset, value in enumerate([values[1], b"broken", values[0], values[1]])
    ]  # fmt: skip
    with closing(catalog.connect(layout.platform())) as opened:
        (table,) = tables.ensure(opened, [TRADES.bronze("binance")])
        table.append(pa.Table.from_pylist(records, schema=table.schema().as_arrow()))
    asked = {"layer": Layer.BRONZE, "exchange": "binance", "registry": registry}
    replayed_trades = replayed(engine, **asked)
    assert replayed_trades == [stored[1], stored[0], stored[1]]
    assert replayed(engine, start=NOON + HOUR, end=NOON + 3 * HOUR, **asked) == [stored[0]]
    with pytest.raises(BadQuery, match="bronze has no trade of binance ETHUSDT"):
        replayed(engine, symbols=("ETHUSDT",), **asked)


def run(layout: Layout, *words: str) -> Any:
    return CliRunner().invoke(app, ["replay", "--data", str(layout.root), "--start", "2026-01-31T00:00:00Z", *words])


def test_the_command_prints_trades_and_writes_files(append: Append, layout: Layout, tmp_path: Path) -> None:
    append([trade(1), trade(2, 1)])
    lines = [json.loads(line) for line in run(layout, "--speed", "max").stdout.splitlines()]
    assert [line["trade_id"] for line in lines] == ["1", "2"]
    assert {json.loads(line["vendor_data"])["source"] for line in lines} == {"replay"}
    path = tmp_path / "trades.parquet"
    assert run(layout, "--output", str(path), "--format", "parquet").exit_code == 0
    assert pq.read_table(path).column("trade_id").to_pylist() == ["1", "2"]


def test_a_topic_receives_every_trade_as_the_ingest_would_write_it(
    engine: Engine, append: Append, layout: Layout, registry: str
) -> None:
    append([trade(n, n) for n in range(3000)])
    broker, topic = Broker(), "rehearsal"
    broker.create(topic)
    ports = {"kafka": int(broker.bootstrap.rpartition(":")[2]), "registry": int(registry.rpartition(":")[2])}
    state.save(layout.state, state.State(ports=ports))
    result = run(layout, "--topic", topic, "--speed", "max")
    assert (result.exit_code, result.stderr) == (0, f"3000 trades written to {topic}\n")
    messages = broker.read(topic)
    stored = [avro.decode(message.value()[5:]) for message in messages]
    assert [str(row["message_id"]) for row in stored] == engine.trades().column("message_id").to_pylist()
    assert {row["vendor_data"]["source"] for row in stored} == {"replay"}
    assert {message.key() for message in messages} == {b"BTCUSDT"}
    assert messages[0].timestamp()[1] == to_micros(NOON) // 1000 + 50
    broker.stop()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--topic", "a", "--serve"), 2, "give one"),
        (("--topic", "__consumer_offsets"), 2, "is not a valid topic for trades"),
        (("--topic", "a b"), 2, "is not a valid topic for trades"),
        (("--serve",), 2, "--serve needs --exchange"),
        (("--speed", "slow"), 2, "is not a speed"),
        (("--symbol", "DOGE"), 2, "is stored; available symbols"),
        (("--topic", "mine"), 3, "schema registry at"),
    ],
)
def test_the_command_reports_errors_in_one_line(append: Append, layout: Layout, words, code: int, message: str) -> None:
    append([trade(1)])
    result = run(layout, *words)
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1)
    assert message in result.stderr


def test_timestamps_keep_microseconds(engine: Engine, append: Append) -> None:
    append([trade(1, timedelta(microseconds=1))])
    assert replayed(engine)[0].timestamp == to_micros(NOON) + 1
