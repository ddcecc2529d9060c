"""One Kafka record becomes a trade or the category of the first rule that it breaks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.query.kafka import row_types
from k2.query.kafka.row_types import row_type
from k2.query.kafka.validation import Validator
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.records.trade import Side, Trade
from k2.schemas.validation import MAX_AHEAD_MICROS

AT = 1_770_000_000_000_000
TRADE = Trade(
    "1", "BTCUSDT", "BINANCE", "BTC", "USDT", AT, 6_183_763_000_000, 1, Side.SELL, AT + 5, (("source", "live"),)
)
VALUE = avro.TradeEncoder(7).encode(TRADE)
VALIDATOR = Validator(TRADES, {7: avro.text()}, "BINANCE")


def test_a_valid_record_is_a_trade_with_exact_numbers():
    row = VALIDATOR.validate(VALUE, b"BTCUSDT", AT)
    assert isinstance(row, row_type(TRADES))
    assert (row.timestamp, row.price, row.quantity, row.side) == (AT, 6_183_763_000_000, 1, "SELL")
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
