"""Records of any channel go from Kafka to Arrow rows by what their channel says of them."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from k2.query import arrow_schema
from k2.query.kafka import record_buffer
from k2.query.kafka.record_buffer import RecordBuffer
from k2.query.kafka.records import ValidatedRecord
from k2.query.kafka.row_types import row_type
from k2.query.kafka.validation import Validator
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.validation import MAX_AHEAD_MICROS
from k2.schemas.values import from_micros
from tests.unit.query.books import AT, BOOKS, SCHEMA_ID, Book, validated, value

PARTITION = ("market.crypto.books.binance", 0)
SECOND = 1_000_000


def ordinals(rows: pa.Table) -> list[int]:
    return [int(ordinal) for ordinal in rows.column("ordinal").to_pylist()]


def test_a_valid_record_is_a_row_of_its_channels_columns():
    row = validated(Book(3, asks=((1, 5),), extra={"b": '"', "a": "1"}))
    assert type(row) is row_type(BOOKS)
    assert row._fields == BOOKS.column_names
    assert (row.timestamp, row.ingestion_timestamp, row.depth) == (AT, AT + 50, 2)
    assert row.bids == [{"price": 10**22, "size": 1}, {"price": -7, "size": 2}]
    assert (row.asks, row.extra) == ([{"price": 1, "size": 5}], '{"a":"1","b":"\\""}')
    assert row_type(BOOKS) is row_type(BOOKS) is not row_type(TRADES)


def test_nulls_stay_null_and_a_comparison_with_one_breaks_no_rule():
    row = validated(Book(1, millis=None, depth=None))
    assert (row.timestamp, row.depth, row.asks, row.extra) == (None, None, None, None)


@pytest.mark.parametrize(
    ("book", "category"),
    [
        (Book(1, depth=1001), "TOO_DEEP"),
        (Book(1, connection=None), "MISSING_FIELD"),
        (Book(1, symbol=""), "MISSING_FIELD"),
        (Book(1, exchange="KRAKEN", depth=1001), "UNKNOWN_EXCHANGE"),
        (Book(1, millis=(AT + MAX_AHEAD_MICROS) // 1000 + 1), "FUTURE_TIMESTAMP"),
        (Book(1, millis=0), "IMPLAUSIBLE_TIMESTAMP"),
        (Book(1, bids=((10**24, 1),)), "UNDECODABLE"),
    ],
)
def test_the_channels_own_rules_are_evaluated_in_order(book: Book, category: str):
    assert validated(book) == category


def test_a_record_of_another_channel_is_no_record_of_this_one():
    validator = Validator(TRADES, {SCHEMA_ID: TRADES.schema}, "BINANCE")
    assert validator.validate(value(Book(1)), None, AT) == "UNDECODABLE"


def test_rows_become_arrow_with_the_types_of_gold():
    books = [Book(1, asks=((5, 1), (6, 1)), bids=(), extra={}), Book(2, millis=None, depth=None)]
    table = record_buffer.table(BOOKS, [validated(book) for book in books])
    assert table.schema.field("bids").type == pa.list_(
        pa.struct([("price", pa.decimal128(24, 8)), ("size", pa.int64())])
    )
    first, second = table.to_pylist()
    assert first == {
        "symbol": "BTCUSDT", "exchange": "BINANCE", "connection": "a", "ordinal": 1, "timestamp": from_micros(AT),
        "ingestion_timestamp": from_micros(AT + 50), "depth": 2, "bids": [],
        "asks": [{"price": Decimal("5E-8"), "size": 1}, {"price": Decimal("6E-8"), "size": 1}], "extra": "{}",
    }  # fmt: skip
    assert (second["timestamp"], second["depth"], second["asks"], second["extra"]) == (None, None, None, None)
    assert second["bids"] == [{"price": Decimal(10**14), "size": 1}, {"price": Decimal("-7E-8"), "size": 2}]


@pytest.mark.parametrize(
    ("ddl", "values", "expected"),
    [
        ("decimal(24,8)", [10**23, None, -1], [Decimal(10**15), None, Decimal("-1E-8")]),
        ("timestamp", [AT, None], [from_micros(AT), None]),
        ("date", [0, None, 20_484], [from_micros(0).date(), None, from_micros(20_484 * 86_400 * SECOND).date()]),
        ("binary", [b"\xff", None], [b"\xff", None]),
        ("array<array<int>>", [[[1], None, []], None, []], [[[1], None, []], None, []]),
        ("struct<a:timestamp,b:string>", [{"a": None, "b": "x"}, None], [{"a": None, "b": "x"}, None]),
        ("map<string,decimal(10,2)>", [{"a": 125}, {}, None], [[("a", Decimal("1.25"))], [], None]),
    ],
)
def test_arrow_arrays_hold_every_type_with_nulls(ddl: str, values: list[Any], expected: list[Any]):
    assert arrow_schema.array(values, arrow_schema.arrow_type(ddl)).to_pylist() == expected


def test_a_type_that_no_table_uses_is_rejected():
    with pytest.raises(ValueError, match="'float' is not a column type"):
        arrow_schema.arrow_type("array<float>")


@pytest.mark.parametrize("count", [9, 2_500])
def test_the_buffer_filters_by_the_first_time_that_is_not_null(count: int):
    buffer = RecordBuffer(BOOKS, 10_000)
    buffer.start_partitions({PARTITION: 0})
    at = [AT + SECOND * n for n in range(count)]
    books = [Book(n, millis=at[n] // 1000) if n % 2 else Book(n, millis=None, arrival=at[n]) for n in range(count)]
    rows = [validated(book, at[-1]) for book in books]
    buffer.add(ValidatedRecord(PARTITION, offset, 0, row) for offset, row in enumerate(rows))
    within = RecordFilter("BTCUSDT", "BINANCE", from_micros(AT + 3 * SECOND), from_micros(AT + 7 * SECOND))
    assert ordinals(buffer.view().rows({PARTITION: 0}, within)) == [3, 4, 5, 6]
    assert ordinals(buffer.view().rows({PARTITION: 5}, within)) == [5, 6]
    assert not buffer.view().rows({PARTITION: 0}, RecordFilter("ETHUSDT")).num_rows


def test_an_identity_is_all_of_its_columns():
    books = [Book(1), Book(2), Book(1, "b"), Book(1, depth=9), Book(2, "b")]
    rows = record_buffer.deduplicate(BOOKS, record_buffer.table(BOOKS, [validated(book) for book in books]))
    assert [(row["connection"], row["ordinal"], row["depth"]) for row in rows.to_pylist()] == [
        ("a", 1, 2), ("a", 2, 2), ("b", 1, 2), ("b", 2, 2),
    ]  # fmt: skip
