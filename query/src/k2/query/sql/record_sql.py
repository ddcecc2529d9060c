"""Build queries of any channel's records: which to select, as an Iceberg predicate and as an SQL condition.

Values are always parameters, never part of the statement's text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery
from k2.query.sql.symbol_names import normalize
from k2.query.times import to_rfc3339, to_utc
from k2.schemas.exchanges.registry import EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyiceberg.expressions import BooleanExpression

    from k2.schemas.channels import Channel

INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Selects records of a symbol, of an exchange, within [start, end). None: no restriction.

    What the range is compared with is an argument of each method: a record's time is the first of the `time_columns`
    that is not null.
    """

    symbol: str | None = None
    exchange: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    symbols: tuple[str, ...] = ()  # any of these, if there are several; `symbol` is None then

    @classmethod
    def of_symbols(
        cls, symbols: Sequence[str], exchange: str | None, start: datetime | None, end: datetime | None
    ) -> RecordFilter:
        """Return the filter of any of the symbols, validated and normalized as `of` does. Raises `BadQuery`."""
        filters = [cls.of(symbol, exchange, start, end) for symbol in symbols]
        normalized = tuple(dict.fromkeys(each.symbol for each in filters if each.symbol))
        return filters[0] if len(normalized) == 1 else replace(filters[0], symbol=None, symbols=normalized)

    @property
    def all_symbols(self) -> tuple[str, ...]:
        """The symbols that are selected; none: every one."""
        return (self.symbol,) if self.symbol else self.symbols

    @classmethod
    def of(cls, symbol: str | None, exchange: str | None, start: datetime | None, end: datetime | None) -> RecordFilter:
        """Validate and normalize a user's input to the tables' spelling. Raises `BadQuery`."""
        start = to_utc(start, "start") if start else None
        end = to_utc(end, "end") if end else None
        if start and end and start > end:
            raise BadQuery(f"start {to_rfc3339(start)} is after end {to_rfc3339(end)}; swap them")
        label = _normalize_exchange(exchange)
        return cls(normalize(symbol, label) if symbol is not None else None, label, start, end)

    def expression(self, *time_columns: str) -> BooleanExpression:
        """Return the Iceberg predicate for Gold: partitions by day (and hour, within one day), then column bounds."""
        from pyiceberg.expressions import AlwaysTrue, And, EqualTo, GreaterThanOrEqual, In, LessThanOrEqual

        parts: list[BooleanExpression] = []
        last = self.end - INSTANT if self.end else None
        if self.start:
            parts += [GreaterThanOrEqual(term="exchange_date", value=self.start.date().isoformat())]
            parts += [_since(self.start, *time_columns)]
        if last and self.end:
            parts += [LessThanOrEqual(term="exchange_date", value=last.date().isoformat())]
            parts += [_before(self.end, *time_columns)]
        if self.start and last and self.start.date() == last.date():
            parts += [
                GreaterThanOrEqual(term="exchange_hour", value=self.start.hour),
                LessThanOrEqual(term="exchange_hour", value=last.hour),
            ]
        parts += [EqualTo(term=name, value=value) for name, value in self._equalities().items()]
        parts += [In(term="symbol", literals=set(self.symbols))] if self.symbols else []
        return And(*parts) if len(parts) > 1 else parts[0] if parts else AlwaysTrue()

    def time_expression(self, *time_columns: str) -> BooleanExpression:
        """Return the time range alone as an Iceberg predicate, for tables without Gold's partitions."""
        from pyiceberg.expressions import AlwaysTrue, And

        parts = [_since(self.start, *time_columns)] if self.start else []
        parts += [_before(self.end, *time_columns)] if self.end else []
        return And(*parts) if len(parts) > 1 else parts[0] if parts else AlwaysTrue()

    def condition(self, *time_columns: str) -> str:
        """Return the exact SQL condition."""
        time = time_columns[0] if len(time_columns) == 1 else f"coalesce({', '.join(time_columns)})"
        parts = ["true", *(f"{name} = ${name}" for name in self._equalities())]
        parts += ["list_contains($symbols::VARCHAR[], symbol)"] if self.symbols else []
        parts += [f"{time} >= $start::TIMESTAMPTZ"] if self.start else []
        parts += [f"{time} < $end::TIMESTAMPTZ"] if self.end else []
        return " AND ".join(parts)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of `condition`."""
        moments = {"start": self.start, "end": self.end}
        several = {"symbols": list(self.symbols)} if self.symbols else {}
        return self._equalities() | several | {name: to_rfc3339(moment) for name, moment in moments.items() if moment}

    def _equalities(self) -> dict[str, str]:
        named = {"symbol": self.symbol, "exchange": self.exchange}
        return {name: value for name, value in named.items() if value}


def union(channel: Channel, *parts: str) -> str:
    """Return the SQL of the channel's columns of the records of several views."""
    columns = ", ".join(f'"{name}"' for name in channel.column_names)
    return " UNION ALL ".join(f"SELECT {columns} FROM {part}" for part in parts)  # noqa: S608 - K2's own names


def differs(channel: Channel, one: str, other: str) -> str:
    """Return the SQL condition that records of two views, joined by their identity, have other content or time."""
    if not channel.content:
        return "false"
    content = [f'{one}."{name}" IS DISTINCT FROM {other}."{name}"' for name in channel.content]
    first, second = (_micros(channel, view) for view in (one, other))
    # As `k2.schemas.content.same_time`; a test compares the two.
    coarse = f"({first} % 1000 = 0 OR {second} % 1000 = 0) AND {first} // 1000 = {second} // 1000"
    return f"({' OR '.join(content)} OR NOT ({first} = {second} OR ({coarse})))"


def _micros(channel: Channel, view: str) -> str:
    return f"epoch_us(coalesce({', '.join(f'{view}.{chr(34)}{name}{chr(34)}' for name in channel.time_columns)}))"


def _since(start: datetime, *time_columns: str) -> BooleanExpression:
    from pyiceberg.expressions import GreaterThanOrEqual

    return _first_not_null(lambda column: GreaterThanOrEqual(term=column, value=start.isoformat()), *time_columns)


def _before(end: datetime, *time_columns: str) -> BooleanExpression:
    from pyiceberg.expressions import LessThan

    return _first_not_null(lambda column: LessThan(term=column, value=end.isoformat()), *time_columns)


def _first_not_null(compare: Callable[[str], BooleanExpression], column: str, *others: str) -> BooleanExpression:
    """Compare the first column that is not null. `iceberg.manifests.hour_range` reads what is returned."""
    from pyiceberg.expressions import And, IsNull, Or

    if not others:
        return compare(column)
    return Or(compare(column), And(IsNull(term=column), _first_not_null(compare, *others)))


def _normalize_exchange(exchange: str | None) -> str | None:
    if exchange is None:
        return None
    if exchange.lower() not in EXCHANGES:
        raise BadQuery(f"{format_value(exchange)} is not an exchange; available exchanges: {', '.join(EXCHANGES)}")
    return EXCHANGES[exchange.lower()].label
