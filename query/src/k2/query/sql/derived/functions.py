"""Functions that statements can read from like a table: their definition, and which files a call needs.

A definition is a macro of DuckDB over the tables. What a call selects by constants also skips files before they are
opened; other arguments select as well, from all files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery, BadStatement
from k2.query.sql.derived import trade_quotes
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import QUOTES, TRADES
from k2.schemas.tables import GOLD, GOLD_QUOTES_TABLE, INSTRUMENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pyiceberg.expressions import BooleanExpression

    from k2.query.sql.cage.tree import Call, Constant

_TIME: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)([ Tt](?P<time>\d\d:\d\d(:\d\d(\.\d{1,6})?)?)\s?(?P<zone>[Zz]|[+-]\d\d(:\d\d)?)?)?"
)
_ZONED: Final = frozenset({"", "timestamptz", "timestamp with time zone"})


@dataclass(frozen=True, slots=True)
class Margin:
    """How far before and after the range of a call the rows of a table matter, and the columns of their time."""

    time_columns: tuple[str, ...]
    before: timedelta = timedelta()
    after: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class TableFunction:
    """A function that a statement can read from.

    Args:
        name: Its name.
        parameters: Its parameters in order.
        body: The SELECT, in which the parameters stand for their values. Columns have a prefix there.
        reads: The tables that it reads; of those with records, which of them a call needs.

    """

    name: str
    parameters: tuple[str, ...]
    body: str
    reads: Mapping[str, Margin | None]

    @property
    def definition(self) -> str:
        """The statement that creates it."""
        parameters = ", ".join(f"{name} := NULL" for name in self.parameters)
        return f"CREATE TEMP MACRO {self.name}({parameters}) AS TABLE {self.body}"

    def conditions(self, call: Call) -> dict[str, BooleanExpression | None]:
        """Return what the rows of each table have that a call needs; None: anything. Raises `BadStatement`."""
        arguments = self._arguments(call)
        selected = _record_filter({name: value for name, value in arguments.items() if value is not None}, call)
        return {table: _expression(selected, margin) if margin else None for table, margin in self.reads.items()}

    def _arguments(self, call: Call) -> dict[str, Constant | None]:
        wrong = [name for name in call.named if name not in self.parameters]
        if wrong or len(call.positional) > len(self.parameters):
            what = (
                f"no parameter {format_value(wrong[0])}"
                if wrong
                else f"{len(self.parameters)} parameter{'s'[: len(self.parameters) - 1]}"
            )
            sentence = f"{self.name}() has {what}; use {', '.join(self.parameters)}"
            raise BadStatement(sentence, offset=call.offset)
        return dict(zip(self.parameters, call.positional, strict=False)) | dict(call.named)


def find(call: Call, tables: Collection[str]) -> TableFunction:
    """Return the function of a call. Raises `BadStatement` if one of the tables that it reads does not exist."""
    (function,) = (each for each in FUNCTIONS if each.name == call.name)
    if absent := sorted(set(function.reads) - set(tables)):
        sentence = f"{call.name}() reads {', '.join(absent)}, which does not exist yet; record its channel with a feed"
        raise BadStatement(sentence, offset=call.offset)
    return function


def moment(constant: Constant) -> datetime | None:
    """Return the time that DuckDB reads in a constant, in UTC; None where only DuckDB can tell."""
    read = _TIME.fullmatch(constant.text.strip())
    kind = constant.cast.lower()
    if read is None or not (kind in _ZONED or (kind in {"timestamp", "date"} and read["zone"] is None)):
        return None
    if kind == "date" and read["time"]:
        return None
    try:
        return datetime.fromisoformat(f"{read['date']}T{read['time'] or '00:00'}{read['zone'] or 'Z'}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _record_filter(arguments: Mapping[str, Constant], call: Call) -> RecordFilter:
    times = {name: moment(arguments[name]) for name in ("start_time", "end_time", "at_time") if name in arguments}
    for name, time in times.items():
        if time is None and not arguments[name].cast:
            sentence = f"{format_value(arguments[name].text)} is not a time; write it as '2026-01-31 14:00:00Z'"
            raise BadStatement(sentence, offset=call.offset)
    symbol, exchange = (arguments[name].text if name in arguments else None for name in ("symbol", "exchange"))
    try:
        selected = RecordFilter.of(symbol, exchange, times.get("start_time"), times.get("end_time"))
    except BadQuery as error:
        raise BadStatement(str(error), offset=call.offset) from error
    if symbol is not None and selected.symbol != symbol.upper():
        raise BadStatement(f"write the symbol as the tables do: '{selected.symbol}'", offset=call.offset)
    return selected


def _expression(selected: RecordFilter, margin: Margin) -> BooleanExpression:
    start = selected.start - margin.before if selected.start else None
    end = selected.end + margin.after if selected.end else None
    return replace(selected, start=start, end=end).expression(*margin.time_columns)


_TRADES: Final = Margin(TRADES.time_columns)
_QUOTES: Final = Margin(QUOTES.time_columns, trade_quotes.MAX_QUOTE_AGE)
FUNCTIONS: Final = (
    TableFunction(
        "trades_with_quotes",
        trade_quotes.PARAMETERS,
        trade_quotes.trades_with_quotes(),
        {GOLD: _TRADES, GOLD_QUOTES_TABLE.name: _QUOTES},
    ),
    TableFunction(
        "markouts",
        trade_quotes.PARAMETERS,
        trade_quotes.markouts(),
        {GOLD: _TRADES, GOLD_QUOTES_TABLE.name: replace(_QUOTES, after=trade_quotes.AFTER_LAST_TRADE)},
    ),
    TableFunction(
        "instruments_at",
        ("at_time",),
        f"SELECT version.* FROM temp.main.{INSTRUMENTS} AS version "  # noqa: S608 - K2's own names
        "WHERE version.valid_from <= coalesce(at_time::TIMESTAMPTZ, now()) "
        "AND (version.valid_to > coalesce(at_time::TIMESTAMPTZ, now()) OR version.valid_to IS NULL)",
        {INSTRUMENTS: None},
    ),
)
NAMES: Final = frozenset(each.name for each in FUNCTIONS)
