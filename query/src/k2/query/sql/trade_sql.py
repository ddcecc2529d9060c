"""Build queries of trades and bars: an Iceberg predicate, which prunes files, and SQL over the files that remain.

Values are always parameters, never part of the statement's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery
from k2.query.times import to_rfc3339, to_utc
from k2.schemas.exchanges.registry import EXCHANGES

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression

VIEW: Final = "trades"
_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,40}")
COLUMNS: Final = (
    "message_id, trade_id, symbol, exchange, base_asset, quote_currency, timestamp, price, quantity, side, "
    "ingestion_timestamp, vendor_data"
)
NUMBER: Final = "coalesce(try_cast(trade_id AS UBIGINT), 18446744073709551615)"  # ids that are not numbers sort last
_ORDER: Final = ("timestamp", NUMBER, "trade_id", "exchange", "symbol")
FIRST, LAST = (f"{pick}(price, {{t: timestamp, n: {NUMBER}, i: trade_id}})" for pick in ("arg_min", "arg_max"))
UNITS: Final = "(100000000 * {0}::DECIMAL(38,8))::HUGEINT"  # a price or quantity in units of 10**-8
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TradeFilter:
    """Selects trades of a symbol, of an exchange, within [start, end). None: no restriction."""

    symbol: str | None = None
    exchange: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def of(cls, symbol: str | None, exchange: str | None, start: datetime | None, end: datetime | None) -> TradeFilter:
        """Validate and normalize a user's input to the tables' spelling. Raises `BadQuery`."""
        start = to_utc(start, "start") if start else None
        end = to_utc(end, "end") if end else None
        if start and end and start > end:
            raise BadQuery(f"start {to_rfc3339(start)} is after end {to_rfc3339(end)}; swap them")
        return cls(_normalize_symbol(symbol), _normalize_exchange(exchange), start, end)

    @property
    def expression(self) -> BooleanExpression:
        """The Iceberg predicate: partitions by day (and hour, within one day), then column bounds."""
        from pyiceberg.expressions import AlwaysTrue, And, EqualTo, GreaterThanOrEqual, LessThan, LessThanOrEqual

        parts: list[BooleanExpression] = []
        last = self.end - _INSTANT if self.end else None
        if self.start:
            parts += [GreaterThanOrEqual(term="exchange_date", value=self.start.date().isoformat())]
            parts += [GreaterThanOrEqual(term="timestamp", value=self.start.isoformat())]
        if last and self.end:
            parts += [LessThanOrEqual(term="exchange_date", value=last.date().isoformat())]
            parts += [LessThan(term="timestamp", value=self.end.isoformat())]
        if self.start and last and self.start.date() == last.date():
            parts += [
                GreaterThanOrEqual(term="exchange_hour", value=self.start.hour),
                LessThanOrEqual(term="exchange_hour", value=last.hour),
            ]
        parts += [EqualTo(term=name, value=value) for name, value in self._equalities().items()]
        return And(*parts) if len(parts) > 1 else parts[0] if parts else AlwaysTrue()

    @property
    def condition(self) -> str:
        """The exact SQL condition."""
        parts = ["true", *(f"{name} = ${name}" for name in self._equalities())]
        parts += ["timestamp >= $start::TIMESTAMPTZ"] if self.start else []
        parts += ["timestamp < $end::TIMESTAMPTZ"] if self.end else []
        return " AND ".join(parts)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of `condition`."""
        moments = {"start": self.start, "end": self.end}
        return self._equalities() | {name: to_rfc3339(moment) for name, moment in moments.items() if moment}

    def beyond(self, position: TradePosition | None) -> TradeFilter:
        """Narrow the time range to one side of a position, so that fewer files are read."""
        if position is None:
            return self
        if self.start:
            return replace(self, start=max(self.start, position.timestamp))
        after = position.timestamp + _INSTANT
        return replace(self, end=min(self.end, after) if self.end else after)

    def _equalities(self) -> dict[str, str]:
        named = {"symbol": self.symbol, "exchange": self.exchange}
        return {name: value for name, value in named.items() if value}


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


def trades(trade_filter: TradeFilter, limit: int | None, beyond: TradePosition | None = None) -> str:
    """Return the SQL of trades, ordered by time and id: the first `limit`, or, without a start, the newest.

    `beyond` a position selects those after it, or, without a start, before it.
    """
    forward = trade_filter.start is not None
    statement = f"SELECT {COLUMNS} FROM {VIEW} WHERE {trade_filter.condition}"  # noqa: S608 - values are parameters
    if beyond is not None:
        statement += f" AND {_position_condition('>' if forward else '<')}"
    order = ", ".join(_ORDER)
    if limit is None:
        return f"{statement} ORDER BY {order}"
    if forward:
        return f"{statement} ORDER BY {order} LIMIT {limit:d}"
    newest = ", ".join(f"{key} DESC" for key in _ORDER)
    return f"SELECT * FROM ({statement} ORDER BY {newest} LIMIT {limit:d}) ORDER BY {order}"  # noqa: S608


def union(*parts: str) -> str:
    """Return the SQL of the trades of several views."""
    return " UNION ALL ".join(f"SELECT {COLUMNS} FROM {part}" for part in parts)  # noqa: S608 - K2's own names


def _position_condition(sign: str) -> str:
    """Compare with a position; the first term is redundant, but lets DuckDB skip files."""
    number = NUMBER.replace("trade_id", "$at_trade_id")
    position = f"($at_timestamp::TIMESTAMPTZ, {number}, $at_trade_id, $at_exchange, $at_symbol)"
    return f"timestamp {sign}= $at_timestamp::TIMESTAMPTZ AND ({', '.join(_ORDER)}) {sign} {position}"


def ohlcv(trade_filter: TradeFilter, bar: timedelta) -> str:
    """Return the SQL of bars per exchange and symbol. Decimals are exact; vwap is rounded half up to 8 places."""
    price, quantity = UNITS.format("price"), UNITS.format("quantity")
    traded = f"sum({quantity})"
    vwap = f"(sum({price} * {quantity}) + {traded} // 2) // {traded}"
    return (
        f"SELECT exchange, symbol, {bucket(bar, 'timestamp')} AS start, {FIRST} AS open, "  # noqa: S608
        f"max(price) AS high, min(price) AS low, {LAST} AS close, sum(quantity) AS volume, count(*) AS trades, "
        f"(({vwap})::DECIMAL(18,0) * 0.00000001::DECIMAL(8,8))::DECIMAL(18,8) AS vwap "
        f"FROM {VIEW} WHERE {trade_filter.condition} GROUP BY ALL ORDER BY start, exchange, symbol"
    )


def bucket(bar: timedelta, column: str) -> str:
    """Return the SQL of the start of the bar that contains a time."""
    return f"time_bucket(INTERVAL {int(bar.total_seconds())} SECONDS, {column}, TIMESTAMPTZ '1970-01-01 00:00:00+00')"


def _normalize_symbol(symbol: str | None) -> str | None:
    if symbol is None:
        return None
    normal = symbol.upper()
    if not _SYMBOL.fullmatch(normal):
        bare = re.sub(r"[^A-Z0-9]", "", normal)
        raise BadQuery(
            f"{format_value(symbol)} is not a symbol; write it without a separator, such as {bare or 'BTCUSDT'}"
        )
    return normal


def _normalize_exchange(exchange: str | None) -> str | None:
    if exchange is None:
        return None
    if exchange.lower() not in EXCHANGES:
        raise BadQuery(f"{format_value(exchange)} is not an exchange; available exchanges: {', '.join(EXCHANGES)}")
    return EXCHANGES[exchange.lower()].label
