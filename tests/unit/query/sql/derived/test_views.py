"""Views of quotes and books in SQL: decimals instead of integers with powers of ten."""

from datetime import timedelta
from decimal import Decimal

import pytest

from k2.cli.embedded.layout import Layout
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.schemas.tables import GOLD_BOOK_TABLE
from tests.unit.query.conftest import NOON
from tests.unit.query.quotes import quote, store

_BOOK = {
    "symbol": "BTCUSDT", "exchange": "BINANCE", "timestamp": NOON, "ingestion_timestamp": NOON, "kind": "snapshot",
    "part": 1, "parts": 1, "first_id": None, "last_id": 7, "previous_id": None,
    "bids": [{"price": 10_001, "quantity": 15}, {"price": 10_000, "quantity": 0}], "asks": [],
    "price_exponent": -2, "quantity_exponent": 3, "connection": "a", "ordinal": 1, "verdict": "verified",
    "clock_offset_ms": None, "gold_ingestion_timestamp": NOON, "exchange_date": NOON.date(), "exchange_hour": 12,
}  # fmt: skip


def test_quotes_have_decimals_and_the_time_that_orders_them(engine: Engine, layout: Layout) -> None:
    store(layout, [quote(1), quote(2, 5, timed=False, bid_price=None, price_exponent=3)])
    statement = "SELECT *, epoch(time - TIMESTAMPTZ '2026-01-31 12:00Z') AS late FROM quotes ORDER BY ordinal"
    table = engine.sql(statement)
    assert str(table.schema.field("bid_price").type) == "decimal128(38, 12)"
    assert table.select(["bid_price", "bid_quantity", "ask_price"]).to_pylist() == [
        {"bid_price": Decimal("100.01"), "bid_quantity": Decimal("0.015"), "ask_price": Decimal("100.11")},
        {"bid_price": None, "bid_quantity": Decimal("0.015"), "ask_price": Decimal(10_012_000)},
    ]
    assert table["late"].to_pylist() == [0, 5]


def test_levels_of_a_book_are_structs_of_decimals(engine: Engine, layout: Layout) -> None:
    store(layout, [_BOOK, _BOOK | {"ordinal": 2, "price_exponent": -13}], GOLD_BOOK_TABLE)
    first, second = engine.sql("SELECT * FROM book ORDER BY ordinal").to_pylist()
    assert first["bids"] == [
        {"price": Decimal("100.01"), "quantity": Decimal(15_000)},
        {"price": Decimal(100), "quantity": Decimal(0)},
    ]
    assert first["asks"] == []
    assert first["time"] - NOON == timedelta()
    assert "price_exponent" not in first
    assert second["bids"][0] == {"price": None, "quantity": Decimal(15_000)}  # finer than a decimal(38,12)


def test_views_are_listed_described_and_read_at_a_snapshot(engine: Engine, layout: Layout) -> None:
    snapshot = store(layout, [quote(1)])
    store(layout, [quote(2)])
    assert engine.sql("SELECT count(*) AS n FROM quotes", as_of=snapshot).to_pylist() == [{"n": 1}]
    names = engine.sql("SHOW TABLES")["name"].to_pylist()
    assert {"quotes", "gold_crypto_quotes", "gold_crypto_trades"} <= set(names)
    assert "book" not in names  # without a table
    described = engine.sql("DESCRIBE quotes")["column_name"].to_pylist()
    assert described == list(engine.relations()["quotes"])
    with pytest.raises(BadQuery, match="did you mean bid_price"):
        engine.sql("SELECT bid_prise FROM quotes")
    with pytest.raises(BadQuery, match='no table "book"'):
        engine.sql("SELECT * FROM book")
