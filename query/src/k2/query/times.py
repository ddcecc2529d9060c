"""Times as users write them. RFC 3339 with an offset, always: a time without one is refused, never guessed."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from k2.common.validation_errors import shown
from k2.query.errors import BadQuery

AsOf = datetime | int | str  # a moment, the id of a snapshot, or a tag

_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)")
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_SNAPSHOT: Final = re.compile(r"[0-9]{1,19}")
_INTERVALS: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
_INTERVAL: Final = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_DAY: Final = timedelta(days=1)


def parse(text: str) -> datetime:
    """The UTC moment of an RFC 3339 time; raises `BadQuery` for anything else."""
    wrong = f"{shown(text)} is not a time; write it with its offset, such as 2026-01-31T14:00:00Z"
    if not _RFC3339.fullmatch(text):
        raise BadQuery(wrong)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadQuery(wrong) from error


def parse_as_of(text: str) -> AsOf:
    """A snapshot id, a tag, which begins with a letter, or a time; raises `BadQuery` for anything else."""
    if _TAG.fullmatch(text):
        return text
    return int(text) if _SNAPSHOT.fullmatch(text) else parse(text)


def aware(moment: datetime, name: str) -> datetime:
    """`moment` in UTC; raises `BadQuery` if it has no time zone."""
    if moment.tzinfo is None:
        raise BadQuery(f"{name} {moment.isoformat()} has no time zone; write it with its offset, such as ...Z")
    return moment.astimezone(UTC)


def text(moment: datetime) -> str:
    """A UTC moment in RFC 3339, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def bar(interval: str) -> timedelta:
    """The length of a bar, 1s to 1d; raises `BadQuery` unless whole bars fill a UTC day."""
    match = _INTERVAL.fullmatch(interval)
    length = timedelta(**{f"{_INTERVALS[match[2]]}s": int(match[1])}) if match else timedelta()
    if not length or length > _DAY or _DAY % length:
        raise BadQuery(
            f"{shown(interval)} is not an interval; write 1s to 1d so that whole bars fill a day, such as 1m, 5m or 1h"
        )
    return length


def window(
    length: timedelta, start: datetime | None, end: datetime | None, as_of: AsOf | None
) -> tuple[datetime, datetime]:
    """The range of a window: so long before `end`, before the time of `as_of`, or before now."""
    if start is not None:
        raise BadQuery("a window and a start say the same twice; leave one out")
    if length <= timedelta():
        raise BadQuery("the window is not longer than nothing; give 1 minute or more")
    end = end or (as_of if isinstance(as_of, datetime) else datetime.now(UTC))
    try:
        return end - length, end
    except OverflowError:
        raise BadQuery("the window reaches back before the year 1; make it shorter") from None
