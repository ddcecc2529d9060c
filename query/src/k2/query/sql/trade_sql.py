"""Build queries of trades and bars: SQL over the files that a filter's Iceberg predicate leaves.

Values are always parameters, never part of the statement's text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from k2.query.sql.record_sql import INSTANT
from k2.query.times import to_rfc3339
from k2.schemas.channels import TRADES

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from k2.query.sql.record_sql import RecordFilter

VIEW: Final = "trades"
COLUMNS: Final = ", ".join(TRADES.column_names)
NUMBER: Final = "coalesce(try_cast(trade_id AS UBIGINT), 18446744073709551615)"  # ids that are not numbers sort last
_ORDER: Final = ("timestamp", NUMBER, "trade_id", "exchange", "symbol")
FIRST, LAST = (f"{pick}(price, {{t: timestamp, n: {NUMBER}, i: trade_id}})" for pick in ("arg_min", "arg_max"))
UNITS: Final = "(100000000 * {0}::DECIMAL(38,8))::HUGEINT"  # a price or quantity in units of 10**-8


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
    order = ", ".join(_ORDER)
    if limit is None:
        return f"{statement} ORDER BY {order}"
    if forward:
        return f"{statement} ORDER BY {order} LIMIT {limit:d}"
    newest = ", ".join(f"{key} DESC" for key in _ORDER)
    return f"SELECT * FROM ({statement} ORDER BY {newest} LIMIT {limit:d}) ORDER BY {order}"  # noqa: S608


def _position_condition(sign: str) -> str:
    """Compare with a position; the first term is redundant, but lets DuckDB skip files."""
    number = NUMBER.replace("trade_id", "$at_trade_id")
    position = f"($at_timestamp::TIMESTAMPTZ, {number}, $at_trade_id, $at_exchange, $at_symbol)"
    return f"timestamp {sign}= $at_timestamp::TIMESTAMPTZ AND ({', '.join(_ORDER)}) {sign} {position}"


def ohlcv(trade_filter: RecordFilter, bar: timedelta) -> str:
    """Return the SQL of bars per exchange and symbol. Decimals are exact; vwap is rounded half up to 8 places."""
    price, quantity = UNITS.format("price"), UNITS.format("quantity")
    traded = f"sum({quantity})"
    vwap = f"(sum({price} * {quantity}) + {traded} // 2) // {traded}"
    return (
        f"SELECT exchange, symbol, {bucket(bar, 'timestamp')} AS start, {FIRST} AS open, "  # noqa: S608
        f"max(price) AS high, min(price) AS low, {LAST} AS close, sum(quantity) AS volume, count(*) AS trades, "
        f"(({vwap})::DECIMAL(18,0) * 0.00000001::DECIMAL(8,8))::DECIMAL(18,8) AS vwap "
        f"FROM {VIEW} WHERE {trade_filter.condition('timestamp')} GROUP BY ALL ORDER BY start, exchange, symbol"
    )


def bucket(bar: timedelta, column: str) -> str:
    """Return the SQL of the start of the bar that contains a time."""
    return f"time_bucket(INTERVAL {int(bar.total_seconds())} SECONDS, {column}, TIMESTAMPTZ '1970-01-01 00:00:00+00')"
