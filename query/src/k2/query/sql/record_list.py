"""Build the queries that list the records of a channel in order of time: all, the first, the newest, or a page.

Values are always parameters, never part of the statement's text.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from k2.query.sql.record_sql import INSTANT
from k2.query.times import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from k2.query.sql.record_sql import RecordFilter
    from k2.schemas.channels import Channel


@dataclass(frozen=True, slots=True)
class Position:
    """A record's unique position in the order of a list: its time, and its values of `RecordList.position`."""

    time: datetime
    values: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class RecordList:
    """How the records of a channel are listed.

    Args:
        channel: The channel. The statements read a view with its name and its columns.
        noun: One record, for messages.
        columns: The columns of the result, and the SQL of each over the channel's columns. Those of a record's time,
            its symbol and exchange, and those of `position` are among them, unchanged.
        position: The columns that, after its time, give a record a unique position.
        order: What follows the time in the order, as SQL with the columns of `position` in braces. Default: these.

    """

    channel: Channel
    noun: str
    columns: Mapping[str, str]
    position: tuple[str, ...]
    order: tuple[str, ...] = field(default=())

    @property
    def view(self) -> str:
        """The name under which the statements read the records."""
        return self.channel.name

    @property
    def time(self) -> str:
        """The SQL of a record's time."""
        first, *others = self.channel.time_columns
        return f"coalesce({', '.join((first, *others))})" if others else first

    def position_of(self, row: Mapping[str, Any]) -> Position:
        """Return the position of a row of the result."""
        time = next(row[name] for name in self.channel.time_columns if row[name] is not None)
        return Position(time, tuple(row[name] for name in self.position))

    def narrow(self, record_filter: RecordFilter, beyond: Position | None) -> RecordFilter:
        """Narrow the time range to one side of a position, so that fewer files are read."""
        if beyond is None:
            return record_filter
        if record_filter.start:
            return replace(record_filter, start=max(record_filter.start, beyond.time))
        after = beyond.time + INSTANT
        return replace(record_filter, end=min(record_filter.end, after) if record_filter.end else after)

    def parameters(self, record_filter: RecordFilter, beyond: Position | None) -> dict[str, Any]:
        """Return the parameters of `statement`."""
        if beyond is None:
            return record_filter.parameters
        values = dict(zip((f"at_{name}" for name in self.position), beyond.values, strict=True))
        return record_filter.parameters | values | {"at_time": to_rfc3339(beyond.time)}

    def statement(
        self, record_filter: RecordFilter, limit: int | None, beyond: Position | None = None, *, listed: bool = False
    ) -> str:
        """Return the SQL of the records, in order: the first `limit`, or, without a start, the newest.

        `beyond` a position selects those after it, or, without a start, before it. `listed`: the view holds rows of
        such a result instead of the channel's.
        """
        forward = record_filter.start is not None
        columns = "*" if listed else ", ".join(f'{sql} AS "{name}"' for name, sql in self.columns.items())
        statement = f"SELECT {columns} FROM {self.view} WHERE {record_filter.condition(*self.channel.time_columns)}"  # noqa: S608 - values are parameters
        if beyond is not None:
            statement += f" AND {self._position_condition('>' if forward else '<')}"
        order = ", ".join(self._order())
        if limit is None:
            return f"{statement} ORDER BY {order}"
        if forward:
            return f"{statement} ORDER BY {order} LIMIT {limit:d}"
        newest = ", ".join(f"{key} DESC" for key in self._order())
        return f"SELECT * FROM ({statement} ORDER BY {newest} LIMIT {limit:d}) ORDER BY {order}"  # noqa: S608

    def _order(self) -> tuple[str, ...]:
        columns = {name: name for name in self.position}
        return self.time, *(key.format(**columns) for key in self.order or map("{{{}}}".format, self.position))

    def _position_condition(self, sign: str) -> str:
        """Compare with a position; the first term is redundant, but lets DuckDB skip files."""
        parameters = {name: f"$at_{name}" for name in self.position}
        keys = [key.format(**parameters) for key in self.order or map("{{{}}}".format, self.position)]
        position = f"($at_time::TIMESTAMPTZ, {', '.join(keys)})"
        return f"{self.time} {sign}= $at_time::TIMESTAMPTZ AND ({', '.join(self._order())}) {sign} {position}"
