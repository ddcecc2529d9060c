"""Silver: every Bronze row becomes a trade or a dead letter, decoded with the schema that its header names."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from k2.common.schema_registry import Registry
from k2.jobs.layers import silver
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro, wire
from tests.spark.builders import HOUR, Lake, Record, as_record, numbers, trade, written

pytestmark = pytest.mark.spark


def test_each_category_has_its_dead_letter_and_every_row_is_somewhere(lake: Lake):
    feed, good = lake.feed(), as_record(trade(1))
    bad = {
        "MALFORMED_HEADER": Record(b"\x01\x00\x00"),
        "UNKNOWN_SCHEMA": Record(written(good, 4_000)),
        "UNDECODABLE": Record(wire.header(lake.schema_id) + b"\xff\xff\xff"),
        "MISSING_FIELD": Record(written(good | {"trade_id": ""}, lake.schema_id)),
        "UNKNOWN_EXCHANGE": Record(written(good | {"exchange": "KRAKEN"}, lake.schema_id)),
        "SYMBOL_MISMATCH": Record(written(good, lake.schema_id), key="ETHUSDT"),
        "NON_POSITIVE_PRICE": lake.record(trade(2, price=-1)),
        "NON_POSITIVE_QUANTITY": lake.record(trade(3, quantity=0)),
        "FUTURE_TIMESTAMP": Record(lake.record(trade(4)).value, at=HOUR - timedelta(minutes=2)),
        "IMPLAUSIBLE_TIMESTAMP": Record(lake.record(trade(5, datetime(2009, 1, 2, 23, tzinfo=UTC))).value),
    }
    lake.arrive(feed, [trade(100), *bad.values(), trade(101)])
    lake.arrive(feed, [Record(None), trade(102)])
    lake.run(feed, "silver")
    letters = lake.dead.orderBy("offset").collect()
    assert [row["error_category"] for row in letters] == [*bad, "MALFORMED_HEADER"]
    assert [row["value"] for row in letters[:10]] == [record.value for record in bad.values()]
    assert {row["exchange"] for row in letters} == {"BINANCE"}
    assert all(row["error_message"] for row in letters)
    assert numbers(lake.silver()) == [100, 101, 102]
    places = lake.silver().select("offset").union(lake.dead.select("offset"))
    assert sorted(row[0] for row in places.collect()) == list(range(14))


def test_a_trade_is_typed_exactly(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(7, price=10**38 - 1, quantity=1, vendor_data=(("source", "live"), ("m", "true")))])
    lake.run(feed, "silver")
    row = lake.silver().collect()[0]
    assert str(row["price"]) == "99999999999999999999999999.999999999999"
    assert row["quantity"] == Decimal("0.000000000001")
    assert row["vendor_data"] == {"source": "live", "m": "true"}
    assert lake.silver().selectExpr("unix_micros(timestamp)").collect()[0][0] == trade(7).timestamp
    assert (row["schema_id"], row["side"], row["message_id"]) == (lake.schema_id, "BUY", str(trade(7).message_id))


def test_a_row_is_decoded_with_the_schema_that_wrote_it(lake: Lake):
    """One more nullable field in the middle: read with any other schema, every field after it would be wrong."""
    feed = lake.feed("coinbase")
    evolved = json.loads(avro.text())
    evolved["fields"].insert(4, {"name": "venue_note", "type": ["null", "string"], "default": None})
    registry = Registry(lake.platform.registry)
    newer = registry.register(topics.subject(feed.topic(TRADES)), json.dumps(evolved))
    old = trade(1, exchange="coinbase")
    noted = as_record(trade(2, exchange="coinbase")) | {"venue_note": "auction"}
    lake.arrive(feed, [old, Record(written(noted, newer, evolved), old.symbol)])
    lake.run(feed, "silver")
    rows = lake.silver("coinbase").orderBy("offset").collect()
    assert [row["schema_id"] for row in rows] == [lake.schema_id, newer]
    assert newer != lake.schema_id
    assert rows[0]["quote_currency"] == rows[1]["quote_currency"] == "USD"
    assert rows[0]["price"] == rows[1]["price"]
    assert lake.dead.isEmpty()


def test_two_feeds_of_one_exchange_validate_their_own_topics_only(lake: Lake):
    first, second = lake.feed(), lake.feed(name="second")
    second = second.model_copy(
        update={"spec": second.spec.model_copy(update={"kafka": second.spec.kafka.model_copy(update={"topic": "t2"})})}
    )
    Registry(lake.platform.registry).register(topics.subject("t2"), avro.text())
    lake.arrive(first, [trade(1)])
    lake.arrive(second, [trade(2)])
    lake.run(first, "silver")
    assert numbers(lake.silver()) == [1]
    lake.run(second, "silver")
    assert numbers(lake.silver()) == [1, 2]
    assert lake.snapshots(TRADES.silver("binance"))[0].summary["k2.rows-in"] == "1"


def _with_decimals(precision: int, scale: int) -> str:
    return avro.text().replace('"precision": 38, "scale": 12', f'"precision": {precision}, "scale": {scale}')


def test_a_decimal_has_its_writers_scale_whatever_the_other_records_have(lake: Lake):
    feed = lake.feed()
    schemas = {801: _with_decimals(18, 8), 802: _with_decimals(38, 18), 803: _with_decimals(20, 12)}
    schemas[lake.schema_id] = avro.text()

    def record(number: int, schema_id: int, price: str, quantity: str = "1") -> Record:
        fields = as_record(trade(number)) | {"price": Decimal(price), "quantity": Decimal(quantity)}
        return Record(written(fields, schema_id, json.loads(schemas[schema_id])))

    values = [
        (lake.schema_id, "61837.63", "0.000000000001"),
        (801, "61837.63", "0.00000001"),
        (801, "9999999999.99999999", "1.5"),
        (802, "99999999999999999999.123456789012", "0.02"),
        (803, "12345678.123456789012", "3"),
    ]
    inexact = [(802, "1.0000000000001", "1"), (802, "1", "0.000000000000000001")]
    records = [record(number, *value) for number, value in enumerate(values + inexact)]
    records += [Record(wire.header(801) + b"\xff\xff"), record(90, 801, "-1.5")]
    lake.arrive(feed, records)
    rows = silver.validated(lake.bronze(), TRADES, schemas, "BINANCE").orderBy("offset").collect()
    valid = [(row["schema_id"], row["price"], row["quantity"]) for row in rows if row["error_category"] is None]
    assert valid == [(schema_id, Decimal(price), Decimal(quantity)) for schema_id, price, quantity in values]
    assert [row["error_category"] for row in rows[len(values) :]] == ["UNDECODABLE"] * 3 + ["NON_POSITIVE_PRICE"]
    trades = silver.records(silver.validated(lake.bronze(), TRADES, schemas, "BINANCE"), TRADES)
    assert trades.dtypes == lake.silver().dtypes
    assert {row["vendor_data"]["source"] for row in rows[: len(values)]} == {"live"}
    times = trades.orderBy("offset").selectExpr("unix_micros(timestamp)", "unix_micros(ingestion_timestamp)").collect()
    expected = [trade(number) for number in range(len(values))]
    assert [tuple(row) for row in times] == [(one.timestamp, one.ingestion_timestamp) for one in expected]
