"""Versions of instruments become intervals of validity: each once, in order, without overlap."""

import random
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from k2.common.schema_registry import Registry, SchemaCache
from k2.jobs.layers import instruments
from k2.jobs.layers.instruments import InstrumentsLayer
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import topics
from k2.schemas.codecs import avro, wire
from k2.schemas.records.instrument import AVRO, Instrument, InstrumentStatus, InstrumentVersion
from k2.schemas.tables import INSTRUMENTS_TABLE
from k2.schemas.values import to_micros
from tests.spark.builders import HOUR, Lake

pytestmark = pytest.mark.spark

DELISTED = InstrumentStatus.DELISTED
LISTED_AT = to_micros(HOUR - timedelta(days=900))
Row = tuple[Any, ...]


def _version(second: int, raw_symbol: str = "BTCUSDT", exchange: str = "BINANCE", **changes: Any) -> InstrumentVersion:
    """Return a version that begins so many seconds after `HOUR`."""
    fields = {
        "raw_symbol": raw_symbol, "symbol": raw_symbol, "exchange": exchange, "base_asset": raw_symbol[:-4],
        "quote_currency": "USDT", "status": InstrumentStatus.TRADING, "tick_size": Decimal("0.01"),
        "lot_size": Decimal("0.00001"), "min_notional": None, "listed_at": LISTED_AT, "definition": '{"a":1,"b":2}',
    }  # fmt: skip
    return InstrumentVersion(Instrument(**(fields | changes)), to_micros(HOUR + timedelta(seconds=second)))


def _layer(lake: Lake, exchange: str = "binance") -> tuple[InstrumentsLayer, int]:
    """Return the layer, as a query makes it, and the id of the schema with which the ingest writes."""
    registry, subject = Registry(lake.platform.registry), topics.subject(topics.instruments(exchange))
    schema_id = registry.register(subject, avro.text(AVRO))
    return InstrumentsLayer(exchange, exchange.upper(), SchemaCache(registry, subject).schemas), schema_id


def _batch(lake: Lake, values: Iterable[bytes | None], topic: str = topics.instruments("binance")) -> Any:
    rows = [{"topic": topic, "value": value, "offset": offset} for offset, value in enumerate(values)]
    return SimpleNamespace(rows=local_frame(lake.spark, rows, "topic string, value binary, offset bigint"))


def _encoded(versions: Iterable[InstrumentVersion], schema_id: int) -> list[bytes]:
    encoder = avro.RecordEncoder(schema_id, avro.load(AVRO), lambda version: version.fields)
    return [encoder.encode(version) for version in versions]


def _commit(lake: Lake, *versions: InstrumentVersion, exchange: str = "binance") -> None:
    layer, schema_id = _layer(lake, exchange)
    layer.commit(_batch(lake, _encoded(versions, schema_id), topics.instruments(exchange)))


def _seconds(column: str) -> str:
    return f"unix_seconds({column}) - {int(HOUR.timestamp())} AS {column}"


def _stored(lake: Lake, *columns: str, exchange: str = "BINANCE") -> list[Row]:
    """Return symbol, first and last second, and more columns of an exchange's rows, in order."""
    rows = lake.table(INSTRUMENTS_TABLE).where(f"exchange = '{exchange}'").orderBy("raw_symbol", "valid_from")
    return [
        tuple(row)
        for row in rows.selectExpr("symbol", _seconds("valid_from"), _seconds("valid_to"), *columns).collect()
    ]


def _expected(symbol: str, topic: Iterable[InstrumentVersion]) -> list[Row]:
    """Return the rows of a symbol; of versions of the same second the larger step is valid."""
    steps: dict[int, Decimal] = {}
    for version in topic:
        if version.instrument.symbol == symbol:
            second = (version.valid_from - to_micros(HOUR)) // 1_000_000
            steps[second] = max(steps.get(second, Decimal(0)), version.instrument.tick_size or Decimal(0))
    in_order = sorted(steps.items())
    before = [None, *(step for _, step in in_order)]
    changes = [change for change, step in zip(in_order, before, strict=False) if change[1] != step]
    ends = [second for second, _ in changes][1:]
    return [(symbol, start, end, step) for (start, step), end in zip_longest(changes, ends)]


def test_a_version_is_valid_until_the_next_and_what_repeats_the_one_before_is_none(lake: Lake):
    lake.feed()
    coarse = {"tick_size": Decimal("0.1")}
    first = [_version(0), _version(10, **coarse), _version(5, "ETHUSDT")]
    _commit(lake, *first, _version(3), first[0])  # doubled by another process, and by a retry
    assert _stored(lake, "tick_size") == [
        ("BTCUSDT", 0, 10, Decimal("0.01")),
        ("BTCUSDT", 10, None, Decimal("0.1")),
        ("ETHUSDT", 5, None, Decimal("0.01")),
    ]
    _commit(lake, _version(20, **coarse, definition='{"b": 2, "a": 1}'))  # says the same
    assert len(lake.snapshots(INSTRUMENTS_TABLE)) == 1
    _commit(lake, _version(30, **coarse, definition='{"a":1,"b":3}'), _version(4, "ETHUSDT"))
    assert _stored(lake, "definition") == [
        ("BTCUSDT", 0, 10, '{"a":1,"b":2}'),
        ("BTCUSDT", 10, 30, '{"a":1,"b":2}'),
        ("BTCUSDT", 30, None, '{"a":1,"b":3}'),
        ("ETHUSDT", 4, None, '{"a":1,"b":2}'),
    ]


def test_a_delisting_has_its_time_until_the_instrument_is_listed_again_and_a_listing_never_goes_back(lake: Lake):
    lake.feed()
    _commit(lake, _version(0, "OLDUSDT", status=DELISTED))
    _commit(lake, _version(0), _version(10, status=DELISTED), _version(15, status=DELISTED, definition="{}"))
    _commit(lake, _version(20, listing=2), _version(30, listing=1, tick_size=None))
    assert _stored(lake, "status", "listing", _seconds("delisted_at")) == [
        ("BTCUSDT", 0, 10, "trading", 1, None),
        ("BTCUSDT", 10, 15, "delisted", 1, 10),
        ("BTCUSDT", 15, 20, "delisted", 1, 10),
        ("BTCUSDT", 20, 30, "trading", 2, None),
        ("BTCUSDT", 30, None, "trading", 2, None),
        ("OLDUSDT", 0, None, "delisted", 1, None),
    ]


def test_any_batches_and_replays_of_a_topic_give_the_same_table(lake: Lake):
    """The table is compared with a plain computation from the whole topic, whose records are in the order of time."""
    lake.feed()
    chance = random.Random(7)
    symbols = [f"A{number}USDT" for number in range(30)]
    topic = [
        _version(second, chance.choice(symbols), tick_size=Decimal(chance.choice([1, 2])))
        for second in sorted(chance.choices(range(100), k=400))
    ]
    for end in (150, 280, 400):
        _commit(lake, *chance.choices(topic[:end], k=40), *topic[:end])
    expected = [row for symbol in sorted(symbols) for row in _expected(symbol, topic)]
    assert _stored(lake, "tick_size") == expected
    _commit(lake, *topic)  # the checkpoint was lost
    assert len(lake.snapshots(INSTRUMENTS_TABLE)) == 3


def test_records_that_are_no_instruments_of_the_exchange_change_nothing(lake: Lake):
    lake.feed()
    _commit(lake, _version(0, exchange="KRAKEN"), exchange="kraken")
    layer, schema_id = _layer(lake)
    good, foreign = _encoded([_version(1), _version(2, "ETHUSDT", "OKX")], schema_id)
    unknown = wire.header(schema_id + 1000) + good[wire.HEADER_SIZE :]
    with capture_logs() as logs:
        layer.commit(_batch(lake, [None, b"", b"\x00", wire.header(schema_id) + b"\x01", unknown, foreign, good]))
    assert [(line["records"], line["first_offset"], line["last_offset"]) for line in logs] == [(6, 0, 5)]
    assert _stored(lake) == [("BTCUSDT", 1, None)]
    assert _stored(lake, exchange="KRAKEN") == [("BTCUSDT", 0, None)]
    layer.commit(_batch(lake, [good], topics.gaps("binance")))  # another topic of the same query
    assert len(lake.snapshots(INSTRUMENTS_TABLE)) == 2


def test_a_commit_between_reading_and_writing_loses_no_version(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    """Another feed of the exchange stores a newer version from its own driver."""
    lake.feed()
    _commit(lake, _version(0))
    others = [_version(20, tick_size=Decimal(2))]

    def intervals(versions: Any) -> Any:
        rows = compute(versions)
        if others:
            layer, schema_id = _layer(lake)
            frame = _batch(lake, _encoded([others.pop()], schema_id)).rows
            layer._replace(instruments.decoded(frame, layer._schemas()))
        return rows

    compute = instruments.intervals
    monkeypatch.setattr(instruments, "intervals", intervals)
    _commit(lake, _version(10, tick_size=Decimal(1)))
    assert _stored(lake, "tick_size") == [
        ("BTCUSDT", 0, 10, Decimal("0.01")),
        ("BTCUSDT", 10, 20, Decimal(1)),
        ("BTCUSDT", 20, None, Decimal(2)),
    ]
