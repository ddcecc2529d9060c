"""Build queries of trades and bars: SQL over the files that a filter's Iceberg predicate leaves.

Values are always parameters, never part of the statement's text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from k2.query.candles.intervals import Interval
from k2.query.sql import exact
from k2.query.sql.record_sql import INSTANT
from k2.query.times import to_rfc3339
from k2.schemas.channels import TRADES
from k2.schemas.values import SCALE

if TYPE_CHECKING:
    from datetime import datetime

    from k2.query.sql.record_sql import RecordFilter

VIEW: Final = "trades"
COLUMNS: Final = ", ".join(TRADES.column_names)
NUMBER: Final = "coalesce(try_cast(trade_id AS UBIGINT), 18446744073709551615)"  # ids that are not numbers sort last
ORDER: Final = ("timestamp", NUMBER, "trade_id", "exchange", "symbol")
FIRST, LAST = (f"{pick}(price, {{t: timestamp, n: {NUMBER}, i: trade_id}})" for pick in ("arg_min", "arg_max"))


@dataclass(frozen=True, slots=True)
class TradePosition:
    """A trade's unique position in the order of trades."""

    timestamp: datetime
    trade_id: str
    exchange: str
    symbol: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the comparison in `trades`."""
        values = {"trade_id": self.trade_id, "exchange": self.exchange, "symbol": self.symbol}
        return {f"at_{name}": value for name, value in values.items()} | {"at_timestamp": to_rfc3339(self.timestamp)}


def narrow(trade_filter: RecordFilter, beyond: TradePosition | None) -> RecordFilter:
    """Narrow the time range to one side of a position, so that fewer files are read."""
    if beyond is None:
        return trade_filter
    if trade_filter.start:
        return replace(trade_filter, start=max(trade_filter.start, beyond.timestamp))
    after = beyond.timestamp + INSTANT
    return replace(trade_filter, end=min(trade_filter.end, after) if trade_filter.end else after)


def trades(trade_filter: RecordFilter, limit: int | None, beyond: TradePosition | None = None) -> str:
    """Return the SQL of trades, ordered by time and id: the first `limit`, or, without a start, the newest.

    `beyond` a position selects those after it, or, without a start, before it.
    """
    forward = trade_filter.start is not None
    statement = f"SELECT {COLUMNS} FROM {VIEW} WHERE {trade_filter.condition('timestamp')}"  # noqa: S608 - values are parameters
    if beyond is not None:
        statement += f" AND {_position_condition('>' if forward else '<')}"
    order = ", ".join(ORDER)
    if limit is None:
        return f"{statement} ORDER BY {order}"
    if forward:
        return f"{statement} ORDER BY {order} LIMIT {limit:d}"
    newest = ", ".join(f"{key} DESC" for key in ORDER)
    return f"SELECT * FROM ({statement} ORDER BY {newest} LIMIT {limit:d}) ORDER BY {order}"  # noqa: S608


def _position_condition(sign: str) -> str:
    """Compare with a position; the first term is redundant, but lets DuckDB skip files."""
    number = NUMBER.replace("trade_id", "$at_trade_id")
    position = f"($at_timestamp::TIMESTAMPTZ, {number}, $at_trade_id, $at_exchange, $at_symbol)"
    return f"timestamp {sign}= $at_timestamp::TIMESTAMPTZ AND ({', '.join(ORDER)}) {sign} {position}"


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
