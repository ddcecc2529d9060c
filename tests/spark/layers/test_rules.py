"""The queries' Kafka tail decodes and validates records as Silver does."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from k2.common.schema_registry import Registry
from k2.query.iceberg import catalog, tables
from k2.query.kafka import kafka_offsets
from k2.query.kafka.validation import Validator
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro, wire
from k2.schemas.content import ID_CONFLICT
from k2.schemas.tables import GOLD
from k2.schemas.values import scaled_decimal, to_micros
from tests.spark.builders import HOUR, Lake, Record, as_record, trade, written

pytestmark = pytest.mark.spark

NAMES = (
    "pair source buyer_is_maker event_time order_type sequence maker_order_id taker_order_id time block ord E ts_ns"
).split()
VENDORS = (
    *({name: str(place) for place, name in enumerate(NAMES[:count])} for count in range(2, len(NAMES) + 1)),
    {"source": "live"},
    {"source": "live", "buyer_is_maker": "true", "E": "1772445605000", "event_time": "1", "pair": "XBT/USD"},
    {f"key_{number}": str(number) for number in range(40)},
    {"é€": "\x00\x1f\x7f\b\t\n\f\r", "quote": '"\\/', "": "", "😀": "\u2028"},
    {},
)


def records(lake: Lake, newer: int, evolved: dict) -> list[Record]:
    good, key = as_record(trade(1)), "BTCUSDT"
    broken = (
        {"trade_id": ""}, {"base_asset": ""}, {"exchange": "KRAKEN"}, {"exchange": "UNKNOWN"}, {"symbol": "ETHUSDT"},
        {"base_asset": "ETH"}, {"message_id": "none"}, {"timestamp": datetime(2009, 1, 3, tzinfo=UTC)},
        {"timestamp": datetime(2009, 1, 2, 23, 59, 59, 999_999, tzinfo=UTC)},
        {"timestamp": HOUR + timedelta(minutes=60)}, {"timestamp": HOUR + timedelta(minutes=60, microseconds=1)},
        {"trade_id": "", "exchange": "KRAKEN"}, {"side": "SELL"},
    )  # fmt: skip
    whole = lake.record(trade(2)).value
    assert whole is not None
    changed = [{"price": 0}, {"price": -1}, {"quantity": 0}, {"price": 1}]
    changed += [{name: units} for name in ("price", "quantity") for units in (10**18 - 1, 10**18, 2**64 + 5, 2**80)]
    values = [
        *(None, b"", b"\x00\x00", b"\x01" + whole[1:], whole + b"more"),
        *(wire.header(lake.schema_id), wire.header(lake.schema_id) + b"\xff" * 12),
        *(whole[:length] for length in range(6, len(whole), 9)),
        *(written(good, 4_000), written(good, 2**31 + 5), written(good | {"venue_note": "auction"}, newer, evolved)),
        *(written(good | changes, lake.schema_id) for changes in broken),
        *(written(good | {"vendor_data": vendor}, lake.schema_id) for vendor in VENDORS),
        *(lake.record(trade(3, **changes)).value for changes in changed),
    ]
    keys = [Record(whole, None), Record(whole, ""), Record(whole, "ETHUSDT"), lake.record(trade(5))]
    return [*(Record(value, key) for value in values), *keys]


def test_every_record_is_validated_as_silver_does(lake: Lake):
    feed, evolved = lake.feed(), json.loads(avro.text())
    evolved["fields"].insert(4, {"name": "venue_note", "type": ["null", "string"], "default": None})
    registry = Registry(lake.platform.registry)
    newer = registry.register(topics.subject(feed.topic(TRADES)), json.dumps(evolved))
    arrived = records(lake, newer, evolved)
    lake.arrive(feed, arrived)
    lake.run(feed, "silver", "gold")

    validator = Validator(TRADES, {lake.schema_id: avro.text(), newer: json.dumps(evolved)}, "BINANCE")
    outcomes = [
        validator.validate(one.value, one.key.encode() if one.key is not None else None, to_micros(one.at))
        for one in arrived
    ]
    categories = {
        row["offset"]: row["error_category"] for row in lake.dead.select("offset", "error_category").collect()
    }
    conflicts = {n for n, category in categories.items() if category == ID_CONFLICT}  # valid, each on its own
    categories = {n: category for n, category in categories.items() if n not in conflicts}
    assert {n: outcome for n, outcome in enumerate(outcomes) if not isinstance(outcome, tuple)} == categories
    assert set(categories.values()) == {
        "MALFORMED_HEADER", "UNKNOWN_SCHEMA", "UNDECODABLE", "MISSING_FIELD", "UNKNOWN_EXCHANGE", "SYMBOL_MISMATCH",
        "NON_POSITIVE_PRICE", "NON_POSITIVE_QUANTITY", "FUTURE_TIMESTAMP", "IMPLAUSIBLE_TIMESTAMP",
    }  # fmt: skip
    times = (f"unix_micros({name}) AS {name}" for name in ("timestamp", "ingestion_timestamp"))
    texts = [
        name for name in TRADES.column_names if name not in {"price", "quantity", "timestamp", "ingestion_timestamp"}
    ]
    silver = lake.silver().selectExpr(
        "offset",
        "to_json(vendor_data) AS vendor_data",
        "price",
        "quantity",
        *times,
        *(t for t in texts if t != "vendor_data"),
    )
    stored = {
        row["offset"]: tuple(
            scaled_decimal(row[name]) if name in {"price", "quantity"} else row[name] for name in TRADES.column_names
        )
        for row in silver.collect()
    }
    valid = {n: tuple(outcome) for n, outcome in enumerate(outcomes) if isinstance(outcome, tuple)}
    assert {n: outcome for n, outcome in valid.items() if n not in conflicts} == stored
    assert conflicts <= valid.keys()


def test_golds_commits_hold_its_frontier(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(1), Record(b"bad"), trade(2)])
    lake.arrive(feed, [trade(3)], partition=1)
    lake.run(feed, "silver", "gold")
    with closing(catalog.connect(lake.platform)) as opened:
        gold = opened.load_table(tables.identifier(GOLD))
        frontier = kafka_offsets.frontier_of(gold, gold.current_snapshot())
    assert frontier.offsets == {feed.topic(TRADES): {0: 3, 1: 1}}
    assert frontier.exchanges == {feed.topic(TRADES): "BINANCE"}
