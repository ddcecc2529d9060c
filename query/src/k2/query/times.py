"""Parse times, intervals and `as_of` values.

Times are RFC 3339 with an offset: a time without one is rejected, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery

AsOf = datetime | int | str  # a time, a snapshot id, or a tag

_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)")
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_SNAPSHOT: Final = re.compile(r"[0-9]{1,19}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """A range of time, [start, end)."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, number: int, unit: timedelta) -> TimeRange:
        """Return one hour or minute, by its number since 1970."""
        return cls(_EPOCH + number * unit, _EPOCH + (number + 1) * unit)


def parse(text: str) -> datetime:
    """Parse an RFC 3339 time to UTC. Raises `BadQuery` for anything else."""
    wrong = f"{format_value(text)} is not a time; write it in RFC 3339 with an offset, such as 2026-01-31T14:00:00Z"
    if not _RFC3339.fullmatch(text):
        date, space, offset = text.rpartition(" ")
        if space and _RFC3339.fullmatch(f"{date}+{offset}"):  # as the query of a URL is decoded
            raise BadQuery(f"{format_value(text)} has lost its +; in a URL write %2B: {date}%2B{offset}")
        raise BadQuery(wrong)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadQuery(wrong) from error


def parse_as_of(text: str) -> AsOf:
    """Parse a snapshot id, a tag (which begins with a letter) or a time. Raises `BadQuery` for anything else."""
    if _TAG.fullmatch(text):
        return text
    return int(text) if _SNAPSHOT.fullmatch(text) else parse(text)


def to_utc(moment: datetime, name: str) -> datetime:
    """Convert a time to UTC. Raises `BadQuery`, which names the parameter, if it has no time zone."""
    if moment.tzinfo is None:
        raise BadQuery(f"{name} {moment.isoformat()} has no time zone; add the offset, such as ...Z")
    return moment.astimezone(UTC)


def to_rfc3339(moment: datetime) -> str:
    """Format a time as RFC 3339 in UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def window_range(
    length: timedelta, start: datetime | None, end: datetime | None, as_of: AsOf | None
) -> tuple[datetime, datetime]:
    """Return the range of length `length` that ends at `end`, at the time of `as_of`, or now. Raises `BadQuery`."""
    if start is not None:
        raise BadQuery("window and start exclude each other; leave one out")
    if length <= timedelta():
        raise BadQuery("the window must be longer than 0; give 1 minute or more")
    end = end or (as_of if isinstance(as_of, datetime) else datetime.now(UTC))
    try:
        return end - length, end
    except OverflowError:
        raise BadQuery("the window begins before the year 1; make it shorter") from None
