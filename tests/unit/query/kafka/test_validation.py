"""One Kafka record becomes a trade or the category of the first rule that it breaks."""

import json
from io import BytesIO

import pyarrow as pa
import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from k2.query import arrow_schema
from k2.query.kafka import record_buffer, row_types
from k2.query.kafka.row_types import row_type
from k2.query.kafka.validation import Validator
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.records.trade import Side, Trade
from k2.schemas.validation import MAX_AHEAD_MICROS
from k2.schemas.values import decimal, to_micros
from tests.unit.query.books import BOOKS, SCHEMA_ID, Book, value

AT = 1_770_000_000_000_000
TRADE = Trade(
    "1", "BTCUSDT", "BINANCE", "BTC", "USDT", AT, 61_837_630_000_000_000, 1, Side.SELL, AT + 5, (("source", "live"),)
)
VALUE = avro.TradeEncoder(7).encode(TRADE)
VALIDATOR = Validator(TRADES, {7: avro.text()}, "BINANCE")


def test_a_valid_record_is_a_trade_with_exact_numbers():
    row = VALIDATOR.validate(VALUE, b"BTCUSDT", AT)
    assert isinstance(row, row_type(TRADES))
    assert (row.timestamp, row.price, row.quantity, row.side) == (AT, 61_837_630_000_000_000, 1, "SELL")
    assert (row.message_id, row.vendor_data) == (str(TRADE.message_id), '{"source":"live"}')
    assert row._fields == tuple(avro.FIELDS)


def test_the_first_broken_rule_is_reported():
    other = Validator(TRADES, {7: avro.text()}, "KRAKEN")
    assert other.validate(VALUE, b"ETHUSDT", 0) == "UNKNOWN_EXCHANGE"
    assert VALIDATOR.validate(VALUE, b"ETHUSDT", 0) == "SYMBOL_MISMATCH"
    assert VALIDATOR.validate(VALUE, None, AT - MAX_AHEAD_MICROS - 1) == "FUTURE_TIMESTAMP"
    assert isinstance(VALIDATOR.validate(VALUE, None, AT - MAX_AHEAD_MICROS), tuple)
    assert Validator(TRADES, {}, "BINANCE").validate(VALUE, None, AT) == "UNKNOWN_SCHEMA"
    assert VALIDATOR.validate(None, None, AT) == "MALFORMED_HEADER"


def test_an_unknown_schema_is_detected_before_validation():
    assert VALIDATOR.has_schema(VALUE)
    assert VALIDATOR.has_schema(b"no header")
    assert not VALIDATOR.has_schema(b"\x00\x00\x00\x00\x08")


@given(st.binary(max_size=200), st.integers(0, len(VALUE)))
def test_garbage_never_raises(garbage: bytes, length: int):
    outcome = VALIDATOR.validate(VALUE[:length] + garbage, b"BTCUSDT", AT)
    assert isinstance(outcome, tuple) or outcome.isupper()


@pytest.mark.parametrize("vendor", [{}, {"a": '"\\/\n\x1f'}, {"é": "😀", "b": "\u2028"}])
def test_vendor_data_is_json(vendor: dict[str, str]):
    assert json.loads(row_types._json(tuple(vendor.items()))) == vendor


def of_decimals(price: int, quantity: int = 1, *, scale: int = 12, precision: int = 38) -> tuple[int, int] | str:
    """Return price and quantity of a record whose writer has decimals of a scale, or the category of its error."""
    text = avro.text().replace('"precision": 38, "scale": 12', f'"precision": {precision}, "scale": {scale}')
    assert (text == avro.text()) == ((precision, scale) == (38, 12))
    raw = VALUE[:1] + (8).to_bytes(4, "big")
    body = dict(avro.decode(VALUE[5:]))
    record = json.loads(text, object_hook=lambda node: {k: v for k, v in node.items() if k != "logicalType"})
    for name, units in (("price", price), ("quantity", quantity)):
        body[name] = units.to_bytes(units.bit_length() // 8 + 1, "big", signed=True)
    for name in ("timestamp", "ingestion_timestamp"):
        body[name] = to_micros(body[name])
    body["message_id"] = str(body["message_id"])
    out = BytesIO()
    schemaless_writer(out, parse_schema(record), body)
    row = Validator(TRADES, {7: avro.text(), 8: text}, "BINANCE").validate(raw + out.getvalue(), None, AT)
    return row if isinstance(row, str) else (row.price, row.quantity)


@pytest.mark.parametrize("units", [1, 2**63 - 1, 2**63, 2**64, 2**64 + 1, 10**38 - 1])
def test_decimals_longer_than_eight_bytes_are_exact(units: int):
    assert of_decimals(units, units) == (units, units)
    column = record_buffer.table(TRADES, [VALIDATOR.validate(VALUE, None, AT)._replace(price=units)]).column("price")
    assert column.type == pa.decimal128(38, 12)
    assert column.to_pylist() == [decimal(units)]
    assert arrow_schema.units(column.combine_chunks()) == [units]


@pytest.mark.parametrize("units", [10**38, 2**127, 2**200])
def test_a_decimal_beyond_38_digits_is_undecodable(units: int):
    assert of_decimals(units) == of_decimals(1, units) == "UNDECODABLE"


@pytest.mark.parametrize(
    ("scale", "units", "expected"),
    [
        (8, 150_000_000, 1_500_000_000_000),
        (8, 2**70, 2**70 * 10**4),
        (18, 1_500_000_000_000_000_000, 1_500_000_000_000),
        (18, 1_500_000_000_000_000_001, "UNDECODABLE"),  # 18 decimals do not fit 12
        (8, 10**34, "UNDECODABLE"),
        (0, 3, 3 * 10**12),
    ],
)
def test_a_writers_own_scale_is_converted_exactly(scale: int, units: int, expected: int | str):
    quantity = 10**scale
    assert of_decimals(units, quantity, scale=scale) == (expected if isinstance(expected, str) else (expected, 10**12))


def test_a_writers_own_precision_bounds_its_decimals():
    """Spark reads decimals of up to 18 digits as longs, so of longer ones the lowest 64 bits."""
    assert of_decimals(10**18 - 1, precision=18) == (10**18 - 1, 1)
    assert of_decimals(10**18, precision=18) == "UNDECODABLE"
    assert of_decimals(2**64 + 5, precision=18, scale=8, quantity=10**8) == (5 * 10**4, 10**12)


def test_lists_with_decimals_of_another_scale_are_undecodable_as_in_silver():
    other = BOOKS.schema.replace('"scale": 8', '"scale": 6')
    validator = Validator(BOOKS, {SCHEMA_ID: BOOKS.schema, SCHEMA_ID + 1: other}, "BINANCE")
    raw = value(Book(1))
    assert isinstance(validator.validate(raw, None, AT), tuple)
    assert validator.validate(raw[:4] + bytes([SCHEMA_ID + 1]) + raw[5:], None, AT) == "UNDECODABLE"
