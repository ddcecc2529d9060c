"""Products, sums and averages of prices in DuckDB have Python's digits, or are null; none of them is an error."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from decimal import ROUND_FLOOR, Context, Decimal
from itertools import groupby

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from k2.query import arrow_schema
from k2.query.candles.intervals import Interval
from k2.query.sql import bars, exact, trade_sql
from k2.schemas.channels import TRADES
from k2.schemas.tables import BARS_TABLE
from tests.unit.query.conftest import NOON, trade

_MATH = Context(prec=200)
_LEAST = Decimal("0.000000000001")
_MOST = Decimal(f"{10**26 - 1}.{10**12 - 1}")
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_COLUMNS = ("open_time", "open", "high", "low", "close", "volume", "trade_count", "vwap")

Amount = tuple[Decimal, Decimal]  # price and quantity
Fields = tuple[object, ...]

# Units of 10**-12: from one to 10**14, of every length, and up to the largest that the column holds.
_UNITS = st.one_of(
    st.integers(0, 26).flatmap(lambda digits: st.integers(10**digits, 10 ** (digits + 1) - 1)), st.integers(1, 10**26),
    st.integers(1, 10**38 - 1),
)  # fmt: skip
_DECIMALS = st.builds(lambda units: _MATH.scaleb(Decimal(units), -12), _UNITS)
_AMOUNTS = st.lists(st.tuples(_DECIMALS, _DECIMALS), min_size=1, max_size=12)

_TINY: Amount = (Decimal("0.000001"), Decimal("0.000001"))  # a notional of 10**-12
_HUGE: Amount = (Decimal(10) ** 9, Decimal(10) ** 6)  # of 10**15, which decimal(38,24) does not hold
_PLAIN: Amount = (Decimal("61837.63"), Decimal("0.5"))


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        yield connection


def _trades(amounts: Sequence[Amount], seconds: int) -> pa.Table:
    rows = [
        trade(number, seconds * number, price=price, quantity=quantity)
        for number, (price, quantity) in enumerate(amounts)
    ]
    schema = arrow_schema.records(TRADES)
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


def _within(value: Decimal, scale: int) -> Decimal | None:
    return value if value < Decimal(10) ** (38 - scale) else None


def _totals(amounts: Sequence[Amount]) -> tuple[Decimal | None, Decimal | None]:
    """Return the volume and the notional; None beyond 38 digits."""
    volume = notional = Decimal(0)
    for price, quantity in amounts:
        volume, notional = _MATH.add(volume, quantity), _MATH.add(notional, _MATH.multiply(price, quantity))
    return _within(volume, 12), _within(notional, 24)


def _vwap(amounts: Sequence[Amount]) -> Decimal | None:
    volume, notional = _totals(amounts)
    if volume is None or notional is None:
        return None
    half_up = _MATH.add(_MATH.scaleb(_MATH.divide(notional, volume), 12), Decimal("0.5"))
    return _MATH.scaleb(half_up.to_integral_value(ROUND_FLOOR, _MATH), -12)


def _bars(amounts: Sequence[Amount], seconds: int, bar: timedelta) -> list[Fields]:
    """Return the bars of trades `seconds` apart, by Python."""
    numbered = enumerate(amounts)
    grouped = groupby(numbered, key=lambda each: NOON + seconds * each[0] * timedelta(seconds=1) // bar * bar)
    result: list[Fields] = []
    for start, members in grouped:
        part = [amount for _, amount in members]
        prices = [price for price, _ in part]
        edges = (prices[0], max(prices), min(prices), prices[-1])
        result.append((start, *edges, _totals(part)[0], len(part), _vwap(part)))
    return result


def _fetch(duck: duckdb.DuckDBPyConnection, statement: str) -> list[Fields]:
    table = duck.sql(statement).to_arrow_table()
    return list(zip(*(table.column(name).to_pylist() for name in _COLUMNS), strict=True))


_TOGETHER = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip


@_TOGETHER
@given(_AMOUNTS)
@example([_TINY])
@example([_HUGE])
@example([_PLAIN, _HUGE, _TINY])
@example([(_MOST, _MOST)])
@example([(Decimal(1), _MOST), (Decimal(1), _MOST)])
@example([(_LEAST, _LEAST)] * 3)
@example([(Decimal(10) ** 14 - 1, Decimal(1)), (Decimal(1), Decimal(1))])
@example([(Decimal(3), _LEAST), (Decimal(4), _LEAST)])  # an average of 3.5 and even more digits are no tie
@example([(_LEAST, Decimal(1)), (2 * _LEAST, Decimal(1))])  # 1.5 units: a tie
def test_bars_of_trades_have_pythons_digits(duck: duckdb.DuckDBPyConnection, amounts: list[Amount]) -> None:
    duck.register(trade_sql.VIEW, _trades(amounts, 1))
    assert _fetch(duck, trade_sql.finished(trade_sql.computed(Interval(_HOUR), "true"))) == _bars(amounts, 1, _HOUR)


@_TOGETHER
@given(_AMOUNTS)
@example([_PLAIN, _HUGE, _PLAIN, _TINY])
@example([(Decimal(10) ** 13 * 6, Decimal(1))] * 8)  # each minute's notional fits, that of the hour does not
@example([(_LEAST, _MOST)] * 8)  # and so the volume
def test_bars_of_minutes_have_the_digits_of_bars_of_trades(
    duck: duckdb.DuckDBPyConnection, amounts: list[Amount]
) -> None:
    duck.register(trade_sql.VIEW, _trades(amounts, 20))
    stored = duck.sql(trade_sql.with_totals(trade_sql.computed(Interval(_MINUTE), "true"))).to_arrow_table()
    types = {column.name: arrow_schema.arrow_type(column.type) for column in BARS_TABLE.columns}
    for name in ("open", "volume", "notional"):
        assert stored.schema.field(name).type == types[name]
    duck.register(bars.MINUTES, stored)
    combined = _fetch(duck, trade_sql.rolled_up(bars._stored_bars("true"), Interval(_HOUR)))
    assert combined == _fetch(duck, trade_sql.finished(trade_sql.computed(Interval(_HOUR), "true")))
    assert combined == _bars(amounts, 20, _HOUR)


@_TOGETHER
@given(_DECIMALS, _DECIMALS)
@example(*_HUGE)
@example(*_TINY)
def test_a_product_is_exact_or_null(duck: duckdb.DuckDBPyConnection, price: Decimal, quantity: Decimal) -> None:
    amount = pa.table({"p": [price], "q": [quantity]}, pa.schema([(name, pa.decimal128(38, 12)) for name in "pq"]))
    duck.register("amount", amount)
    (row,) = duck.execute(f"SELECT {exact.product('p', 'q')} FROM amount").fetchall()
    assert row == (_totals([(price, quantity)])[1],)


@pytest.mark.parametrize("most", [exact.MAX_TRADES, exact.MAX_PARTS])
@pytest.mark.parametrize("scale", [12, 24])
def test_the_largest_values_are_summed_without_an_error(duck: duckdb.DuckDBPyConnection, most: int, scale: int) -> None:
    largest = f"{'9' * (38 - scale)}.{'9' * scale}::DECIMAL(38,{scale})"
    values = f"SELECT {largest} AS n FROM range(3000)"
    summed = f"SELECT {exact.sums('n', 'n', scale, most)} FROM ({values})"
    assert duck.execute(f"SELECT {exact.total('n', scale)} FROM ({summed})").fetchall() == [(None,)]
    alone = f"SELECT {exact.sums('n', 'n', scale, most)} FROM (SELECT {largest} AS n)"
    text = duck.execute(f"SELECT ({exact.total('n', scale)})::VARCHAR FROM ({alone})").fetchall()
    assert text == [(largest.partition("::")[0],)]
    below = 10 ** (38 - scale) // most * 10**scale - 1  # the largest value that is not split
    assert below * most < 2**127
