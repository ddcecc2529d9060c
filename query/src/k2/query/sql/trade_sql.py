"""Build queries of bars, and list trades: SQL over the files that a filter's Iceberg predicate leaves.

Values are always parameters, never part of the statement's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from k2.query.candles.intervals import Interval
from k2.query.sql import exact
from k2.query.sql.record_list import RecordList
from k2.schemas.channels import TRADES
from k2.schemas.values import SCALE

if TYPE_CHECKING:
    from k2.query.sql.record_sql import RecordFilter

_NUMBER: Final = "coalesce(try_cast({trade_id} AS UBIGINT), 18446744073709551615)"  # ids that are no numbers sort last
TRADE_LIST: Final = RecordList(
    TRADES,
    "trade",
    {name: f'"{name}"' for name in TRADES.column_names},
    position=("trade_id", "exchange", "symbol"),
    order=(_NUMBER, "{trade_id}", "{exchange}", "{symbol}"),
)
VIEW: Final = TRADE_LIST.view
NUMBER: Final = _NUMBER.format(trade_id="trade_id")
ORDER: Final = ("timestamp", NUMBER, "trade_id", "exchange", "symbol")  # of `TRADE_LIST`
FIRST, LAST = (f"{pick}(price, {{t: timestamp, n: {NUMBER}, i: trade_id}})" for pick in ("arg_min", "arg_max"))


def ohlcv(trade_filter: RecordFilter, interval: Interval) -> str:
    """Return the SQL of bars per exchange and symbol. Decimals are exact; vwap is rounded half up to 12 places."""
    condition = trade_filter.condition("timestamp")
    if interval.is_uniform:
        return finished(computed(interval, condition))
    return rolled_up(with_totals(computed(Interval(interval.unit), condition)), interval)


def computed(interval: Interval, condition: str) -> str:
    """Return the SQL of the uniform bars of the trades that meet a condition, with the sums that `finished` reads."""
    notional = exact.product("price", "quantity")
    return (
        f"SELECT exchange, symbol, {interval.bucket('timestamp')} AS open_time, {FIRST} AS open, max(price) AS high, "  # noqa: S608
        f"min(price) AS low, {LAST} AS close, count(*) AS trade_count, "
        f"{exact.sums('volume', 'quantity', SCALE, exact.MAX_TRADES)}, "
        f"{exact.sums('notional', 'notional', 2 * SCALE, exact.MAX_TRADES)} "
        f"FROM (SELECT *, {notional} AS notional FROM {VIEW} WHERE {condition}) GROUP BY ALL"
    )


def rolled_up(parts: str, interval: Interval) -> str:
    """Return the SQL of the final columns of bars, given the SQL of shorter ones, of which each is a whole number."""
    return finished(
        f"SELECT exchange, symbol, {interval.bucket('part.open_time')} AS open_time, "  # noqa: S608
        f"arg_min(open, part.open_time) AS open, max(high) AS high, min(low) AS low, "
        f"arg_max(close, part.open_time) AS close, sum(trade_count)::BIGINT AS trade_count, "
        f"{exact.sums('volume', 'volume', SCALE, exact.MAX_PARTS)}, "
        f"{exact.sums('notional', 'notional', 2 * SCALE, exact.MAX_PARTS)} "
        f"FROM {interval.from_clause(parts)} GROUP BY ALL"
    )


def with_totals(summed: str) -> str:
    """Return the SQL of bars with their volume and notional, given the SQL of bars with the sums."""
    return (
        f"SELECT exchange, symbol, open_time, open, high, low, close, {exact.total('volume', SCALE)} AS volume, "  # noqa: S608
        f"trade_count, {exact.total('notional', 2 * SCALE)} AS notional FROM ({summed})"
    )


def finished(summed: str) -> str:
    """Return the SQL of the final columns of bars, in order, given the SQL of bars with the sums."""
    return (
        f"SELECT exchange, symbol, open_time, open, high, low, close, volume, trade_count, "  # noqa: S608
        f"{exact.vwap('notional', 'volume')} AS vwap, notional FROM ({with_totals(summed)}) "
        "ORDER BY open_time, exchange, symbol"
    )
