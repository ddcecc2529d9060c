"""Records on the live stream have the values of the pages: exact decimals and times as text."""

import json
from typing import Any

import pytest

from k2.query.kafka.row_types import row_type
from k2.query.live import record_json
from k2.schemas.channels import BOOK, QUOTES, TRADES, Channel
from tests.unit.query.books import AT

TIME = "2026-02-02T02:40:00.000000Z"
COMMON = {"symbol": "BTCUSDT", "exchange": "BINANCE", "ingestion_timestamp": AT, "clock_offset_ms": None}
OF_CONNECTION = {"connection": "a", "ordinal": 7, "verdict": "verified"}
QUOTE: dict[str, Any] = COMMON | OF_CONNECTION | {
    "timestamp": None, "bid_price": 10_001, "bid_quantity": 15, "ask_price": None, "ask_quantity": None,
    "price_exponent": -2, "quantity_exponent": 3, "sequence": 5,
}  # fmt: skip
UPDATE: dict[str, Any] = COMMON | OF_CONNECTION | {
    "timestamp": AT, "kind": "delta", "part": 1, "parts": 1, "first_id": 1, "last_id": 2, "previous_id": None,
    "bids": [{"price": 61_837, "quantity": 0}], "asks": [], "price_exponent": -12, "quantity_exponent": -1,
}  # fmt: skip


def encoded(channel: Channel, fields: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(record_json.encode(channel, row_type(channel)(**fields)))
    return made


def test_a_quote_has_decimals_and_null_for_a_side_without_orders():
    assert encoded(QUOTES, QUOTE) == COMMON | OF_CONNECTION | {
        "timestamp": None, "ingestion_timestamp": TIME, "bid_price": "100.01", "bid_quantity": "15000",
        "ask_price": None, "ask_quantity": None, "sequence": 5,
    }  # fmt: skip


def test_a_book_message_has_levels_of_decimals():
    assert encoded(BOOK, UPDATE) == {
        name: value for name, value in UPDATE.items() if not name.endswith("_exponent")
    } | {"timestamp": TIME, "ingestion_timestamp": TIME, "bids": [{"price": "0.000000061837", "quantity": "0"}]}


@pytest.mark.parametrize("exponent", [-13, 26, 2**31 - 1])
def test_a_power_of_ten_that_no_decimal_has_gives_null(exponent: int):
    assert encoded(QUOTES, QUOTE | {"price_exponent": exponent})["bid_price"] is None


def test_every_channel_has_an_event():
    assert [record_json.EVENTS[channel] for channel in (TRADES, QUOTES, BOOK)] == ["trade", "quote", "book"]
