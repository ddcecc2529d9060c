"""Quotes and order book messages through Silver and Gold: exact, once, and where their time says."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastavro import parse_schema

from k2.common.schema_registry import Registry
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.schemas import topics
from k2.schemas.channels import BOOK, QUOTES, Channel
from k2.schemas.codecs import wire
from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from k2.schemas.values import to_micros
from tests.spark.books.lake import FIRST, SECOND, Books, Message, books, delta, quote
from tests.spark.builders import HOUR, Lake, Record, written

pytestmark = pytest.mark.spark

MOST = 2**63 - 1


@pytest.fixture
def filled(lake: Lake) -> Books:
    return books(lake)


def _values(row: Any, channel: Channel) -> dict[str, Any]:
    """Return a row of a table as the fields of its Avro record, with times in microseconds."""
    values = row.asDict(recursive=True)
    return {
        name: to_micros(value.astimezone(UTC)) if isinstance(value := values[name], datetime) else value
        for name in channel.column_names
    }


def _stored(filled: Books, channel: Channel) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    tables = channel.silver("binance"), channel.gold
    silver, gold = (filled.lake.table(table).orderBy("ordinal").collect() for table in tables)
    return [_values(row, channel) for row in silver], [_values(row, channel) for row in gold]


def test_every_value_is_exact_in_silver_and_gold_and_each_record_is_where_its_time_says(filled: Books):
    before = to_micros(HOUR) - 1
    quotes: list[Message] = [
        quote(1, bid_price=MOST, bid_quantity=1, ask_price=MOST, ask_quantity=MOST, price_exponent=-12),
        quote(2, HOUR, exchange_timestamp=before, sequence=MOST, verdict=Verdict.SUSPECT),
        quote(3, bid_price=None, bid_quantity=None, sequence=None, quantity_exponent=3, clock_offset_ms=-1500),
        quote(4, ask_price=None, ask_quantity=None),
    ]
    parts = [
        delta(
            number, kind=BookKind.SNAPSHOT, part=number, parts=3, first_id=None, last_id=MOST, exchange_timestamp=None,
            bids=tuple((MOST - level, MOST) for level in range(50)), asks=((1, 1),) * (number - 1),
        )
        for number in (1, 2, 3)
    ]  # fmt: skip
    updates: list[Message] = [
        *parts,
        delta(4, HOUR, exchange_timestamp=before, bids=(), asks=((5, 0), (4, 3), (5, 1)), previous_id=7),
        delta(5, bids=((3, 2), (3, 0)), asks=(), verdict=Verdict.UNVERIFIABLE, price_exponent=-12),
    ]
    filled.arrive(*quotes, channel=QUOTES)
    filled.arrive(*updates)
    filled.run()
    for channel, records in ((QUOTES, quotes), (BOOK, updates)):
        expected = [record.fields for record in records]
        assert _stored(filled, channel) == (expected, expected)
    assert filled.gold(QUOTES) == [(FIRST, 1, 10), (FIRST, 2, 9), (FIRST, 3, 10), (FIRST, 4, 10)]
    assert filled.gold(BOOK) == [(FIRST, number, 9 if number == 4 else 10) for number in range(1, 6)]
    assert filled.lake.dead.count() == 0


def test_each_rule_that_a_record_breaks_is_named(filled: Books):
    early, late = datetime(2009, 1, 2, tzinfo=UTC), to_micros(HOUR + timedelta(minutes=2))
    value = filled.encoders["book"].encode(delta(1))
    bad_updates: list[tuple[Message | Record, str, str]] = [
        (Record(b"\x01" + value[1:]), "MALFORMED_HEADER", "the value does not begin with 0x00 and a schema id"),
        (Record(wire.header(4711) + value[5:]), "UNKNOWN_SCHEMA", "the registry has no schema 4711 for this topic"),
        (Record(value[:20]), "UNDECODABLE", "the bytes after the header are not a record of their schema"),
        (filled.altered(delta(1), connection="", kind=""), "MISSING_FIELD", "empty: kind connection"),
        (delta(1, exchange="OKX"), "UNKNOWN_EXCHANGE", "exchange is OKX, not BINANCE"),
        (Record(value, "ETHUSDT"), "SYMBOL_MISMATCH", "symbol is BTCUSDT, key is ETHUSDT"),
        (delta(1, HOUR, exchange_timestamp=late), "FUTURE_TIMESTAMP",
         "timestamp is 2026-03-02 10:02:00, over 1 minute ahead"),
        (delta(1, exchange_timestamp=to_micros(early)), "IMPLAUSIBLE_TIMESTAMP",
         "timestamp is 2009-01-02 00:00:00, before 2009-01-03"),
    ]  # fmt: skip
    no_time = filled.encoders["quotes"].encode(quote(1, early))
    bad_quotes: list[tuple[Message | Record, str, str]] = [
        (filled.altered(quote(1), verdict=""), "MISSING_FIELD", "empty: verdict"),
        (quote(1, exchange="OKX"), "UNKNOWN_EXCHANGE", "exchange is OKX, not BINANCE"),
        (quote(1, ask_price=-1, bid_price=None), "NON_POSITIVE_PRICE", "bid is null, ask is -1"),
        (quote(1, bid_quantity=0), "NON_POSITIVE_QUANTITY", "quantities are 0 and 7"),
        (Record(no_time), "IMPLAUSIBLE_TIMESTAMP",
         "ingestion_timestamp is 2009-01-02 00:00:00, before 2009-01-03"),
        (Record(no_time, "ETHUSDT"), "SYMBOL_MISMATCH", "symbol is BTCUSDT, key is ETHUSDT"),
    ]  # fmt: skip
    for channel, bad, good in ((BOOK, bad_updates, delta(9)), (QUOTES, bad_quotes, quote(9))):
        filled.arrive(good, *(record for record, _, _ in bad), channel=channel)
        filled.run("silver", channels=[channel])
        letters = filled.lake.dead.where(f"channel = '{channel.name}'").orderBy("offset").collect()
        assert [(row["error_category"], row["error_message"]) for row in letters] == [entry[1:] for entry in bad]
        assert [row["ordinal"] for row in filled.lake.table(channel.silver("binance")).collect()] == [9]


def test_a_record_that_came_twice_is_in_gold_once_and_those_of_two_connections_both_stay(filled: Books):
    again = delta(2), quote(2)
    filled.arrive(delta(1), delta(1), delta(1, connection=SECOND), again[0])
    filled.arrive(quote(1), quote(1, connection=SECOND), quote(1), again[1], channel=QUOTES)
    filled.run()
    filled.arrive(again[0], delta(3), partition=1)
    filled.arrive(again[1], quote(3), channel=QUOTES)
    filled.run()
    expected = [(FIRST, 1, 10), (FIRST, 2, 10), (FIRST, 3, 10), (SECOND, 1, 10)]
    assert filled.gold(BOOK) == filled.gold(QUOTES) == expected
    assert filled.lake.table(BOOK.silver("binance")).count() == 6
    assert filled.audit(rebuild=True).findings == []


def _evolved(channel: Channel, *, without: str = "") -> dict[str, Any]:
    """Return a channel's schema with one more nullable field in the middle, or without one of its nullable fields."""
    schema: dict[str, Any] = json.loads(channel.schema)
    if without:
        schema["fields"] = [one for one in schema["fields"] if one["name"] != without]
    else:
        schema["fields"].insert(4, {"name": "added", "type": ["null", "string"], "default": None})
    return schema


def test_records_of_an_older_and_of_a_newer_schema_are_read_as_they_were_written(filled: Books):
    registry = Registry(filled.lake.platform.registry)
    for channel, record in ((QUOTES, quote(1)), (BOOK, delta(1))):
        subject = topics.subject(filled.feed.topic(channel))
        older = _evolved(channel, without="clock_offset_ms")
        schemas = [(older, record.fields), (_evolved(channel), record.fields | {"added": "x", "ordinal": 2})]
        values = []
        for schema, fields in schemas:
            schema_id = registry.register(subject, json.dumps(schema))
            values.append(Record(written(fields, schema_id, parse_schema(schema))))
        filled.arrive(*values, channel=channel)
        filled.run(channels=[channel])
        expected = [record.fields, record.fields | {"ordinal": 2}]
        assert _stored(filled, channel) == (expected, expected)
    assert filled.lake.dead.count() == 0


def test_rows_of_a_file_are_ordered_by_symbol_connection_and_ordinal(filled: Books):
    filled.arrive(delta(3), delta(1, connection=SECOND), delta(2, symbol="ADAUSDT"), delta(1))
    filled.run(channels=[BOOK])
    for table in (BOOK.silver("binance"), BOOK.gold):
        assert BOOK.gold.sort == table.sort == ("exchange", "symbol", "connection", "ordinal")
        order = SnapshotHistory(filled.lake.spark, table).java_table().sortOrder().fields()
        assert len(order) == 4
        rows = filled.lake.table(table).coalesce(1).select("symbol", "connection", "ordinal").collect()
        assert list(map(tuple, rows)) == sorted(map(tuple, rows))
