"""The last price of each exchange and symbol at a moment."""

from decimal import Decimal
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.unit.query.conftest import Append, trade


def prices(api: TestClient, query: str) -> list[tuple[Any, ...]]:
    rows = api.get(f"/v1/price?{query}").json()["data"]
    columns = ["exchange", "symbol", "trade_id", "timestamp", "price", "quantity", "side"]
    assert all(list(row) == columns for row in rows)
    return [(row["exchange"], row["symbol"], row["trade_id"], row["price"]) for row in rows]


@pytest.fixture
def market(api: TestClient, append: Append) -> TestClient:
    """Several trades with one timestamp, a non-numeric id, and trades of other hours and exchanges."""
    append([trade(number, 5, price=Decimal(number)) for number in (9, 11, 10)])
    append([trade(12, 4), trade(1, 6, symbol="ETHUSDT", price=Decimal(7)), trade(20, 3600, price=Decimal(20))])
    append(
        [
            trade("b", 5, exchange="KRAKEN"),
            trade("a", 5, exchange="KRAKEN", price=Decimal(2)),
            trade("9", 5, exchange="KRAKEN"),
        ]
    )
    return api


def test_of_trades_with_one_timestamp_the_greatest_id_is_the_price(
    market: TestClient,
) -> None:
    assert prices(market, "at=2026-01-31T12:30:00Z") == [
        ("BINANCE", "BTCUSDT", "11", "11"),
        ("BINANCE", "ETHUSDT", "1", "7"),
        ("KRAKEN", "BTCUSDT", "b", "100"),
    ]


def test_a_price_is_before_the_time_and_within_the_maximum_age(market: TestClient) -> None:
    assert prices(market, "at=2026-01-31T12:00:05Z&symbol=BTCUSDT") == [("BINANCE", "BTCUSDT", "12", "100")]
    assert prices(market, "at=2026-01-31T12:00:07Z&within_minutes=0.03") == [("BINANCE", "ETHUSDT", "1", "7")]
    assert prices(market, "at=2026-01-31T13:00:01Z&exchange=binance&within_minutes=1") == [
        ("BINANCE", "BTCUSDT", "20", "20")
    ]
    assert prices(market, "at=2026-01-31T11:00:00Z") == []
