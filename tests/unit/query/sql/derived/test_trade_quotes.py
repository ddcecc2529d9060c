"""Trades with the quote before each, and markouts: results computed by hand."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from k2.query.sql.derived import functions
from k2.schemas.tables import GOLD, GOLD_QUOTES_TABLE
from tests.unit.query.conftest import NOON, trade
from tests.unit.query.quotes import quote

Rows = Sequence[dict[str, Any]]
_TRADES = pa.schema(
    [
        *((name, pa.string()) for name in ("message_id", "trade_id", "symbol", "exchange", "base_asset")),
        *((name, pa.string()) for name in ("quote_currency", "side", "vendor_data")),
        *((name, pa.timestamp("us", "UTC")) for name in ("timestamp", "ingestion_timestamp")),
        *((name, pa.decimal128(38, 12)) for name in ("price", "quantity")),
    ]
)


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def read(database: duckdb.DuckDBPyConnection, call: str, trades: Rows, quotes: Rows) -> list[dict[str, Any]]:
    """Return the rows of a call over these rows of Gold, in order of the trades' ids."""
    stored = pa.Table.from_pylist(list(trades), _TRADES), pa.Table.from_pylist([quote(0), *quotes]).slice(1)
    for name, table in zip((GOLD, GOLD_QUOTES_TABLE.name), stored, strict=True):
        database.execute(f"DROP VIEW IF EXISTS {name}")
        database.register(name, table)
    for each in functions.FUNCTIONS[:2]:
        database.execute(each.definition.replace("CREATE", "CREATE OR REPLACE", 1))
    return database.sql(f"SELECT * FROM {call} ORDER BY trade_id").to_arrow_table().to_pylist()


def bids(
    database: duckdb.DuckDBPyConnection, trades: Rows, quotes: Rows, call: str = "trades_with_quotes()"
) -> list[Any]:
    return [row["bid_price"] for row in read(database, call, trades, quotes)]


def prices(bid: int | None, ask: int | None, exponent: int = -2) -> dict[str, Any]:
    return {"bid_price": bid, "ask_price": ask, "price_exponent": exponent}


def test_a_trade_has_the_last_quote_before_it_as_decimals(database: duckdb.DuckDBPyConnection) -> None:
    quotes = [quote(1, 0), quote(2, 1, verdict="suspect"), quote(3, 2)]
    first, second = read(database, "trades_with_quotes()", [trade(1, 0), trade(2, 1.5)], quotes)
    names = ("quote_time", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "mid_price", "quote_verdict")
    assert [first[name] for name in names] == [None] * 7  # a quote of the same instant may be the trade's effect
    assert [second[name] for name in names] == [
        NOON + timedelta(seconds=1),
        *(Decimal(text) for text in ("100.02", "0.015", "100.12", "2.5", "100.07")),
        "suspect",
    ]
    assert (second["trade_id"], second["price"], second["side"]) == ("2", Decimal(100), "BUY")


def test_a_quote_counts_a_microsecond_before_the_trade(database: duckdb.DuckDBPyConnection) -> None:
    just_before = timedelta(microseconds=1)
    quotes = [quote(1, 0), quote(2, 1, timestamp=NOON + timedelta(seconds=1) - just_before)]
    assert bids(database, [trade(1, 1)], quotes) == [Decimal("100.02")]


def test_exchanges_and_symbols_do_not_mix(database: duckdb.DuckDBPyConnection) -> None:
    quotes = [quote(1, 0), quote(2, 1, symbol="ETHUSDT"), quote(3, 1, exchange="KRAKEN")]
    trades = [trade(1, 2), trade(2, 2, symbol="ETHUSDT"), trade(3, 2, exchange="KRAKEN"), trade(4, 2, exchange="OKX")]
    assert bids(database, trades, quotes) == [Decimal("100.01"), Decimal("100.02"), Decimal("100.03"), None]


def test_quotes_of_one_instant_are_ordered_by_sequence_or_else_ordinal(database: duckdb.DuckDBPyConnection) -> None:
    by_sequence = [
        quote(9, 0, sequence=2**62),
        quote(1, 0, sequence=2**62 + 1),
        quote(5, 0, sequence=7, connection="b"),
    ]
    assert bids(database, [trade(1, 1)], by_sequence) == [Decimal("100.01")]
    by_ordinal = [quote(9, 0), quote(1, 0), quote(5, 0, connection="b")]
    assert bids(database, [trade(1, 1)], by_ordinal) == [Decimal("100.09")]


def test_without_exchange_time_the_time_of_arrival_orders(database: duckdb.DuckDBPyConnection) -> None:
    assert bids(database, [trade(1, 1), trade(2, 3)], [quote(1, 0), quote(2, 2, timed=False)]) == [
        Decimal("100.01"),
        Decimal("100.02"),
    ]


def test_a_quote_older_than_an_hour_is_none(database: duckdb.DuckDBPyConnection) -> None:
    assert bids(database, [trade(1, 3600), trade(2, 3600.000001)], [quote(1, 0)]) == [Decimal("100.01"), None]


@pytest.mark.parametrize(
    ("levels", "mid"),
    [
        (prices(10_000, 10_001), "100.005"),
        (prices(1, 2, -12), None),  # the middle would have a thirteenth place
        (prices(1, 3, -12), "0.000000000002"),
        (prices(1, 2, 3), "1500"),
        (prices(None, 3), None),
        (prices(2**63 - 1, 2**63 - 1, 0), None),  # their sum exceeds 64 bits
    ],
)
def test_the_mid_price_is_exact_or_null(
    database: duckdb.DuckDBPyConnection, levels: dict[str, Any], mid: str | None
) -> None:
    (row,) = read(database, "trades_with_quotes()", [trade(1, 1)], [quote(1, 0, **levels)])
    assert row["mid_price"] == (mid and Decimal(mid))


def test_markouts_are_moves_of_the_mid_price_in_favour_of_the_aggressor(database: duckdb.DuckDBPyConnection) -> None:
    quotes = [
        quote(1, 0, **prices(9_990, 10_000)),
        quote(2, 2, **prices(10_000, 10_010)),  # at the horizon of 1 s: it counts
        quote(3, 11.5, **prices(10_010, 10_021)),  # after that of 10 s
        quote(4, 61, **prices(None, 10_000)),
        quote(5, 62, **prices(1, 3)),
    ]
    trades = [trade(1, 1, price=Decimal(100)), trade(2, 1, price=Decimal("99.9"), side="SELL")]
    buy, sell = read(database, "markouts()", trades, quotes)
    assert [buy[f"mid_{seconds}s"] for seconds in (1, 10, 60)] == [Decimal("100.05"), Decimal("100.05"), None]
    assert [buy[f"markout_{seconds}s"] for seconds in (1, 10)] == [Decimal("0.05"), Decimal("0.05")]
    assert [sell[f"markout_{seconds}s"] for seconds in (1, 10)] == [Decimal("-0.15"), Decimal("-0.15")]
    assert (buy["markout_60s"], buy["mid_price"]) == (None, Decimal("99.95"))  # a side of the quote is empty


def test_a_markout_after_the_last_quote_is_null(database: duckdb.DuckDBPyConnection) -> None:
    (row,) = read(database, "markouts()", [trade(1, 1)], [quote(1, 0), quote(2, 11)])
    assert [row[f"mid_{seconds}s"] for seconds in (1, 10, 60)] == [Decimal("100.06"), Decimal("100.07"), None]
    (row,) = read(database, "markouts()", [trade(1, 1)], [quote(1, 0), quote(2, 3600)])  # of the next hour
    assert row["mid_60s"] == Decimal("100.06")
    (row,) = read(database, "markouts()", [trade(1, 1)], [quote(1, 0), quote(2, 7200)])
    assert row["mid_1s"] is None


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ("'btcusdt', exchange := 'Binance'", ["1", "2", "3"]),
        ("'BTCUSDT', '2026-01-31T12:00:10Z'", ["2", "3"]),
        ("'BTCUSDT', '2026-01-31 12:00:10', TIMESTAMPTZ '2026-01-31 12:00:20Z'", ["2"]),
        ("exchange := 'kraken'", ["4"]),
        ("end_time := TIMESTAMPTZ '2026-01-31 12:00:05Z' + INTERVAL 5 seconds", ["1", "4"]),
        ("NULL, NULL, NULL", ["1", "2", "3", "4"]),
    ],
)
@pytest.mark.parametrize("name", ["trades_with_quotes", "markouts"])
def test_arguments_select_trades_and_not_the_quotes_around_them(
    database: duckdb.DuckDBPyConnection, name: str, arguments: str, ids: list[str]
) -> None:
    trades = [trade(1, 5), trade(2, 10), trade(3, 20), trade(4, 5, exchange="KRAKEN")]
    quotes = [quote(1, 0), quote(2, 0, exchange="KRAKEN"), quote(3, 100), quote(4, 100, exchange="KRAKEN")]
    rows = read(database, f"{name}({arguments})", trades, quotes)
    assert [row["trade_id"] for row in rows] == ids
    assert all(row["bid_price"] is not None and row.get("mid_60s", 1) is not None for row in rows)
