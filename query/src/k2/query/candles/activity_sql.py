"""SQL of bars by activity, of one UTC day at a time: its trades in order, and the bars between given ends.

The trades of the day are sorted once, into a temporary table that DuckDB may spill to disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from k2.query import arrow_schema
from k2.query.candles.activity import MAX_BARS, ActivityBars, BarCounter, Measure, Rule, check_number
from k2.query.sql import exact, trade_sql
from k2.schemas.values import SCALE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow import Table

_DAY: Final = "trades_of_day"
_ENDS: Final = "bar_ends"
_BATCH_ROWS: Final = 100_000
_HUGE: Final = 10**14 - 1  # stands for a notional beyond 38 digits; it reaches any threshold by itself
_VALUES: Final = {
    Measure.TICK: "1::DECIMAL(38,0)",
    Measure.VOLUME: "quantity",
    Measure.DOLLAR: f"coalesce({exact.product('price', 'quantity')}, {_HUGE})::DECIMAL(38,24)",
}


def load(connection: DuckDBPyConnection, condition: str, parameters: dict[str, Any]) -> None:
    """Sort the matching trades of one day. The view of trades must be attached."""
    order = ", ".join(key for key in trade_sql.ORDER if key not in {"exchange", "symbol"})
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_DAY} AS "  # noqa: S608 - values are parameters
        f"SELECT exchange, symbol, timestamp, price, quantity, side, "
        f"row_number() OVER (PARTITION BY exchange, symbol ORDER BY {order}) AS number "
        f"FROM {trade_sql.VIEW} WHERE {condition} ORDER BY exchange, symbol, number",
        parameters,
    )


def bars(connection: DuckDBPyConnection, rule: ActivityBars) -> Table:
    """Return the bars of the loaded day in order of time; `closed`: whether the threshold was reached."""
    connection.register(_ENDS, _ends(connection, rule))
    summed = (
        f"SELECT exchange, symbol, min(timestamp) AS open_time, max(timestamp) AS close_time, "  # noqa: S608
        f"arg_min(price, number) AS open, max(price) AS high, min(price) AS low, arg_max(price, number) AS close, "
        f"count(*) AS trade_count, bool_or(bar_end IS NOT NULL) AS closed, min(number) AS number, "
        f"{exact.sums('volume', 'quantity', SCALE, exact.MAX_TRADES)}, "
        f"{exact.sums('notional', 'notional', 2 * SCALE, exact.MAX_TRADES)} "
        f"FROM (SELECT day.*, bar_end, {exact.product('price', 'quantity')} AS notional FROM {_DAY} AS day "
        f"ASOF LEFT JOIN {_ENDS} AS ends ON day.exchange = ends.exchange AND day.symbol = ends.symbol "
        f"AND day.number <= ends.bar_end) GROUP BY exchange, symbol, bar_end"
    )
    totals = (
        f"SELECT * EXCLUDE (volume_whole, volume_rest, volume_exact, notional_whole, notional_rest, notional_exact), "  # noqa: S608
        f"{exact.total('volume', SCALE)} AS volume, {exact.total('notional', 2 * SCALE)} AS notional FROM ({summed})"
    )
    statement = (
        f"SELECT exchange, symbol, open_time, close_time, open, high, low, close, volume, trade_count, "  # noqa: S608
        f"{exact.vwap('notional', 'volume')} AS vwap, notional, closed FROM ({totals}) "
        "ORDER BY open_time, exchange, symbol, number"
    )
    return connection.sql(statement).to_arrow_table()


def _ends(connection: DuckDBPyConnection, rule: ActivityBars) -> Table:
    """Return the number of the last trade of each bar that reached the threshold."""
    import pyarrow as pa

    if rule.rule is Rule.SUM and rule.measure is Measure.TICK:
        rounds = f"SELECT exchange, symbol, number AS bar_end FROM {_DAY} WHERE number % $size = 0"  # noqa: S608
        numbers = connection.sql(f"{rounds} LIMIT {MAX_BARS + 1}", params={"size": rule.units}).to_arrow_table()
        check_number(numbers.num_rows)
        return numbers
    pairs = connection.execute(f"SELECT DISTINCT exchange, symbol FROM {_DAY}").fetchall()  # noqa: S608
    ends = []
    for exchange, symbol in pairs:
        counter = BarCounter(rule)
        batches = connection.sql(
            f"SELECT {_VALUES[rule.measure]} AS value, side = 'BUY' AS buy FROM {_DAY} "  # noqa: S608
            "WHERE exchange = $exchange AND symbol = $symbol ORDER BY number",
            params={"exchange": exchange, "symbol": symbol},
        ).to_arrow_reader(_BATCH_ROWS)
        for batch in batches:
            values = [value or 0 for value in arrow_schema.units(batch.column("value"))]  # none is null
            counter.add(values, batch.column("buy").to_pylist())
        count = len(counter.ends)
        ends.append(pa.table({"exchange": [exchange] * count, "symbol": [symbol] * count, "bar_end": counter.ends}))
    empty = pa.schema([("exchange", pa.string()), ("symbol", pa.string()), ("bar_end", pa.int64())])
    return pa.concat_tables([empty.empty_table(), *(table.cast(empty) for table in ends)])
