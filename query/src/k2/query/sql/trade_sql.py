"""Trades and bars as a predicate for Iceberg, which prunes files by it, and as SQL over what is left.

Values are parameters, never text in a statement.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.common.validation_errors import shown
from k2.query.errors import BadQuery
from k2.query.times import aware, text
from k2.schemas.exchanges.spec import EXCHANGES

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression

VIEW: Final = "trades"
_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,40}")
COLUMNS: Final = (
    "message_id, trade_id, symbol, exchange, base_asset, quote_currency, timestamp, price, quantity, side, "
    "ingestion_timestamp, vendor_data"
)
NUMBER: Final = "coalesce(try_cast(trade_id AS UBIGINT), 18446744073709551615)"  # ids without a number come last
_ORDER: Final = ("timestamp", NUMBER, "trade_id", "exchange", "symbol")
FIRST, LAST = (f"{pick}(price, {{t: timestamp, n: {NUMBER}, i: trade_id}})" for pick in ("arg_min", "arg_max"))
UNITS: Final = "(100000000 * {0}::DECIMAL(38,8))::HUGEINT"  # a price or quantity without its point
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The trades that a question is about: of a symbol, of an exchange, within [start, end). None: all."""

    symbol: str | None = None
    exchange: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def of(cls, symbol: str | None, exchange: str | None, start: datetime | None, end: datetime | None) -> "Wanted":
        """What a user asked for, as the tables spell it. Raises `BadQuery` with what to change."""
        start = aware(start, "start") if start else None
        end = aware(end, "end") if end else None
        if start and end and start > end:
            raise BadQuery(f"start {text(start)} is after end {text(end)}; swap them")
        return cls(_symbol(symbol), _exchange(exchange), start, end)

    @property
    def expression(self) -> "BooleanExpression":
        """For Iceberg: partitions of the days, and of the hours where it is one day, then the columns' bounds."""
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
        parts += [EqualTo(term=name, value=value) for name, value in self._equal().items()]
        return And(*parts) if len(parts) > 1 else parts[0] if parts else AlwaysTrue()

    @property
    def condition(self) -> str:
        """For SQL: the same, exactly."""
        parts = ["true", *(f"{name} = ${name}" for name in self._equal())]
        parts += ["timestamp >= $start::TIMESTAMPTZ"] if self.start else []
        parts += ["timestamp < $end::TIMESTAMPTZ"] if self.end else []
        return " AND ".join(parts)

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of `condition`."""
        moments = {"start": self.start, "end": self.end}
        return self._equal() | {name: text(moment) for name, moment in moments.items() if moment}

    def beyond(self, place: "Place | None") -> "Wanted":
        """The same without what is on the near side of a place, so that fewer files are read."""
        if place is None:
            return self
        if self.start:
            return replace(self, start=max(self.start, place.timestamp))
        after = place.timestamp + _INSTANT
        return replace(self, end=min(self.end, after) if self.end else after)

    def _equal(self) -> dict[str, str]:
        named = {"symbol": self.symbol, "exchange": self.exchange}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Place:
    """A trade's place in the order of trades. No two trades have the same."""

    timestamp: datetime
    trade_id: str
    exchange: str
    symbol: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The values that `trades` compares with."""
        told = {"trade_id": self.trade_id, "exchange": self.exchange, "symbol": self.symbol}
        return {f"at_{name}": value for name, value in told.items()} | {"at_timestamp": text(self.timestamp)}


def trades(wanted: Wanted, limit: int | None, beyond: Place | None = None) -> str:
    """The trades in order of time, then of their number. A limit takes the first, or, without a start, the newest.

    `beyond` a place are those after it, or, without a start, those before it.
    """
    forward = wanted.start is not None
    found = f"SELECT {COLUMNS} FROM {VIEW} WHERE {wanted.condition}"  # noqa: S608 - values are parameters
    if beyond is not None:
        found += f" AND {_beyond('>' if forward else '<')}"
    order = ", ".join(_ORDER)
    if limit is None:
        return f"{found} ORDER BY {order}"
    if forward:
        return f"{found} ORDER BY {order} LIMIT {limit:d}"
    newest = ", ".join(f"{key} DESC" for key in _ORDER)
    return f"SELECT * FROM ({found} ORDER BY {newest} LIMIT {limit:d}) ORDER BY {order}"  # noqa: S608


def union(*parts: str) -> str:
    """The trades of several views, as one."""
    return " UNION ALL ".join(f"SELECT {COLUMNS} FROM {part}" for part in parts)  # noqa: S608 - K2's own names


def _beyond(sign: str) -> str:
    """The comparison with a place; the first part says nothing new, but files are skipped by it."""
    number = NUMBER.replace("trade_id", "$at_trade_id")
    place = f"($at_timestamp::TIMESTAMPTZ, {number}, $at_trade_id, $at_exchange, $at_symbol)"
    return f"timestamp {sign}= $at_timestamp::TIMESTAMPTZ AND ({', '.join(_ORDER)}) {sign} {place}"


def ohlcv(wanted: Wanted, bar: timedelta) -> str:
    """Bars of each exchange and symbol. All decimals are exact but vwap's, which is rounded half up to 8 places."""
    price, quantity = UNITS.format("price"), UNITS.format("quantity")
    traded = f"sum({quantity})"
    vwap = f"(sum({price} * {quantity}) + {traded} // 2) // {traded}"
    return (
        f"SELECT exchange, symbol, {bucket(bar, 'timestamp')} AS start, {FIRST} AS open, "  # noqa: S608
        f"max(price) AS high, min(price) AS low, {LAST} AS close, sum(quantity) AS volume, count(*) AS trades, "
        f"(({vwap})::DECIMAL(18,0) * 0.00000001::DECIMAL(8,8))::DECIMAL(18,8) AS vwap "
        f"FROM {VIEW} WHERE {wanted.condition} GROUP BY ALL ORDER BY start, exchange, symbol"
    )


def bucket(bar: timedelta, column: str) -> str:
    """The start of the bar that a time lies in."""
    return f"time_bucket(INTERVAL {int(bar.total_seconds())} SECONDS, {column}, TIMESTAMPTZ '1970-01-01 00:00:00+00')"


def _symbol(symbol: str | None) -> str | None:
    if symbol is None:
        return None
    normal = symbol.upper()
    if not _SYMBOL.fullmatch(normal):
        bare = re.sub(r"[^A-Z0-9]", "", normal)
        raise BadQuery(f"{shown(symbol)} is not a symbol; write it without a separator, such as {bare or 'BTCUSDT'}")
    return normal


def _exchange(exchange: str | None) -> str | None:
    if exchange is None:
        return None
    if exchange.lower() not in EXCHANGES:
        raise BadQuery(f"{shown(exchange)} is not an exchange; there are {', '.join(EXCHANGES)}")
    return EXCHANGES[exchange.lower()].label
