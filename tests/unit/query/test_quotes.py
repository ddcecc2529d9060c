"""Quotes from the engine, the API, the client and the command line."""

import json
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.query.iceberg.scan_planner import ScanPlanner
from k2.query.sql import exact
from k2.query.sql.quote_sql import QUOTE_LIST
from k2.schemas.tables import GOLD_QUOTES_TABLE
from tests.unit.query.conftest import NOON, Append, trade
from tests.unit.query.quotes import quote, store


def ordinals(engine: Engine, **query: Any) -> list[int]:
    return engine.quotes(**query).column("ordinal").to_pylist()


def test_prices_and_quantities_are_decimals_of_each_row_s_power_of_ten(engine: Engine, layout: Layout) -> None:
    most = 2**63 - 1
    store(
        layout,
        [
            quote(1),
            quote(2, bid_price=None, bid_quantity=None, price_exponent=3),
            quote(3, bid_price=most, ask_price=1, price_exponent=-12, bid_quantity=7, quantity_exponent=9),
        ],
    )
    first, second, third = engine.quotes().to_pylist()
    assert [first[name] for name in ("bid_price", "bid_quantity", "ask_price", "ask_quantity")] == [
        Decimal(text) for text in ("100.01", "0.015", "100.11", "2.5")
    ]
    assert (second["bid_price"], second["bid_quantity"], second["ask_price"]) == (None, None, 10_012_000)
    assert (third["bid_price"], third["ask_price"]) == (Decimal(most).scaleb(-12), Decimal(1).scaleb(-12))
    assert third["bid_quantity"] == 7 * 10**9
    assert "price_exponent" not in first


@pytest.mark.parametrize(
    ("number", "exponent", "expected"),
    [
        (1, -13, None),
        (1, 25, Decimal(10**25)),
        (1, 26, None),
        (-(2**63), 6, Decimal(-(2**63) * 10**6)),
        (None, 9, None),
    ],
)
def test_a_number_that_does_not_fit_is_null(number: int | None, exponent: int, expected: Decimal | None) -> None:
    import duckdb

    with duckdb.connect() as connection:
        statement = f"SELECT {exact.scaled('n', 'e')} FROM (VALUES ($n::BIGINT, $e::INT)) t(n, e)"
        assert connection.execute(statement, {"n": number, "e": exponent}).fetchone() == (expected,)


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("query", [{}, {"start": NOON}])
def test_pages_add_up_to_the_whole_result(engine: Engine, layout: Layout, size: int, query: dict[str, Any]) -> None:
    store(layout, [quote(2, 0), quote(1, 0), quote(1, 0, connection="b"), quote(3, 1, timed=False)])
    store(layout, [quote(4, 7200, timed=False), quote(5, 0.5, symbol="ETHUSDT")])
    whole = engine.quotes(**query).to_pylist()
    assert [(row["connection"], row["ordinal"]) for row in whole] == [
        ("a", 1), ("a", 2), ("b", 1), ("a", 5), ("a", 3), ("a", 4)
    ]  # fmt: skip
    pages, beyond = [], None
    while page := engine.quotes(limit=size, beyond=beyond, **query).to_pylist():
        pages.append(page)
        beyond = QUOTE_LIST.position_of(page[-1] if query else page[0])
    assert [row for page in (pages if query else reversed(pages)) for row in page] == whole


def test_the_newest_quotes_without_exchange_times_are_read_from_the_last_hour_alone(layout: Layout) -> None:
    layout.root.mkdir()
    for hour in range(3):
        store(layout, [quote(hour, 3600 * hour, timed=False)])
    planner = ScanPlanner(layout.platform())
    try:
        bounds = sorted(planner.plan(GOLD_QUOTES_TABLE.name).times)
    finally:
        planner.close()
    noon = int(NOON.timestamp()) * 10**6
    assert bounds == [(noon + hour * 3600 * 10**6, noon + (hour + 1) * 3600 * 10**6 - 1) for hour in range(3)]


def test_a_symbol_without_any_quote_is_an_error_and_a_range_without_one_is_empty(engine: Engine, layout: Layout):
    store(layout, [quote(1)])
    assert ordinals(engine, symbol="BTCUSDT", end=NOON) == []
    with pytest.raises(BadQuery, match='no quote of "NOSUCH" is stored'):
        engine.quotes(symbol="NOSUCH")


def test_quotes_are_found_in_every_spelling_and_an_unknown_symbol_names_the_nearest(
    engine: Engine, append: Append, layout: Layout
) -> None:
    store(layout, [quote(1), quote(2, symbol="BTCUSD", exchange="KRAKEN")])
    assert ordinals(engine, symbol="btc-usdt") == [1]
    assert ordinals(engine, symbol="XBT/USD", exchange="kraken") == [2]
    with pytest.raises(BadQuery, match=r"did you mean BTCUSD\?$"):
        engine.quotes(symbol="BTCUSTD")
    append([trade(1)])
    with pytest.raises(BadQuery, match=r'"BTC" is an asset and not a symbol; choose BTCUSDT$'):
        engine.quotes(symbol="BTC")


def test_the_command_prints_quotes(append: Append, layout: Layout) -> None:
    store(layout, [quote(number, number) for number in range(3)])
    command = ["quotes", "--symbol", "btcusdt", "--limit", "2", "--format", "json", "--data", str(layout.root)]
    result = CliRunner().invoke(app, command)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, [row["bid_price"] for row in rows]) == (0, ["100.01", "100.02"])
