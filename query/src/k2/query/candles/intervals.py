"""Intervals of bars: seconds to months, and where each bar begins in a time zone. No table and no clock here.

A day, a week (from Monday, as ISO 8601 has it) and a month begin at midnight of the zone. Shorter bars are counted from
that midnight, so that every bar has its full length; only the last of a day whose clocks change may be shorter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery
from k2.schemas.values import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(days=7)
MINUTE: Final = timedelta(minutes=1)
SECOND: Final = timedelta(seconds=1)
OPENS: Final = "bar_opens"  # the name of a query's parameter
_MONTH: Final = "1M"
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_INTERVAL: Final = re.compile(r"([1-9][0-9]{0,4})([smhdw])")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)
FIRST_TRADE: Final = datetime(2009, 1, 3, tzinfo=UTC)  # as Silver's rules have it


@dataclass(frozen=True, slots=True)
class Interval:
    """The length of bars, and the zone at whose midnight they begin."""

    length: timedelta | None  # None: a calendar month
    zone: tzinfo = UTC

    @property
    def is_uniform(self) -> bool:
        """Whether every bar has the same length, so that arithmetic finds its beginning."""
        return self.length is not None and self.zone is UTC

    @property
    def unit(self) -> timedelta:
        """The length of the parts of UTC that every bar is a whole number of. Zones differ by whole minutes."""
        return MINUTE if self.length is None or not self.length % MINUTE else SECOND

    def floor(self, moment: datetime) -> datetime:
        """Return when the bar begins that contains a moment."""
        midnight = self._period(moment)
        if self.length is None or self.length >= DAY:
            return midnight
        return midnight + (moment - midnight) // self.length * self.length

    def after(self, opened: datetime) -> datetime:
        """Return when the bar ends that begins at `opened`, which is when the next one begins."""
        local = opened.astimezone(self.zone).date()
        if self.length is None:
            return self._midnight(_next_month(local))
        if self.length >= DAY:
            return self._midnight(local + self.length)
        return min(opened + self.length, self._midnight(local + DAY))

    def opens(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield when each bar begins, from the one that contains `start` to the last that begins before `end`."""
        opened = self.floor(start)
        while opened < end:
            yield opened
            opened = self.after(opened)

    def back(self, end: datetime, number: int) -> datetime:
        """Return when the earliest of the `number` bars begins that end with the one before `end`, or that holds it."""
        opened = self.floor(end - timedelta(microseconds=1))
        try:
            if self.is_uniform and self.length:
                return max(opened - (number - 1) * self.length, FIRST_TRADE)
            while number > 1 and opened > FIRST_TRADE:
                # As many steps at once as lead to the beginning of the day; of a longer bar there is none.
                steps = 0
                if self.length and self.length < DAY:
                    steps = min((opened - self._period(opened)) // self.length, number - 1)
                    opened -= steps * self.length
                if steps < number - 1:
                    opened = self.floor(opened - timedelta(microseconds=1))
                    steps += 1
                number -= steps
        except OverflowError:
            return FIRST_TRADE
        return opened

    def from_clause(self, parts: str) -> str:
        """Return the FROM clause over the SQL of parts with an `open_time`, under the name `part`."""
        opens = f"(SELECT make_timestamptz(unnest(${OPENS}::BIGINT[])) AS opened)"
        return f"({parts}) AS part" + ("" if self.is_uniform else f" ASOF JOIN {opens} ON part.open_time >= opened")

    def bucket(self, column: str) -> str:
        """Return the SQL of the beginning of the bar that contains a time; unless uniform, in a `from_clause`."""
        if self.is_uniform and self.length:
            origin = _MONDAY if self.length == WEEK else _EPOCH
            seconds = int(self.length.total_seconds())
            return f"time_bucket(INTERVAL {seconds} SECONDS, {column}, TIMESTAMPTZ '{origin.isoformat()}')"
        if self.length is None or self.length >= DAY:
            return "opened"
        micros = self.length // timedelta(microseconds=1)
        since = f"(epoch_us({column}) - epoch_us(opened))"
        return f"make_timestamptz(epoch_us(opened) + {since} // {micros} * {micros})"

    def parameters(self, start: datetime | None, end: datetime | None, now: datetime) -> dict[str, Any]:
        """Return the parameters of `from_clause` for parts of a time range."""
        if self.is_uniform:
            return {}
        calendar = self if self.length is None or self.length >= DAY else Interval(DAY, self.zone)
        return {OPENS: [to_micros(each) for each in calendar.opens(start or FIRST_TRADE, (end or now) + DAY)]}

    def _period(self, moment: datetime) -> datetime:
        """Return the beginning of the day, week or month of a moment."""
        local = moment.astimezone(self.zone).date()
        if self.length is None:
            return self._midnight(local.replace(day=1))
        return self._midnight(local - timedelta(days=local.weekday()) if self.length == WEEK else local)

    def _midnight(self, day: date) -> datetime:
        """Return a day's first instant: the first of two midnights, or what replaces one that is skipped."""
        return datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)


def parse_interval(text: str, zone: str | None = None) -> Interval:
    """Parse an interval and the name of a zone. Raises `BadQuery` unless whole bars fill a day, week or month."""
    in_zone = parse_zone(zone)
    if text == _MONTH:
        return Interval(None, in_zone)
    length = _length(text)
    if not length or (length != WEEK and (length > DAY or DAY % length)):
        raise BadQuery(
            f"{format_value(text)} is not an interval; use 1s to 1d, dividing a day evenly, such as 1m, 5m or 1h, or "
            "1w or 1M"
        )
    return Interval(length, in_zone)


def parse_length(text: str) -> timedelta:
    """Parse an interval of at most a day. Raises `BadQuery` unless whole ones fill a day."""
    length = _length(text)
    if not length or length > DAY or DAY % length:
        raise BadQuery(
            f"{format_value(text)} is not an interval; use 1s to 1d, dividing a day evenly, such as 1m, 5m or 1h"
        )
    return length


def parse_zone(name: str | None) -> tzinfo:
    """Return a time zone by its IANA name. Raises `BadQuery`."""
    if name is None or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadQuery(f"{format_value(name)} is not a time zone; give its IANA name, such as Europe/Berlin") from None


def _length(text: str) -> timedelta:
    """Return the length that a text stands for; zero if for none."""
    match = _INTERVAL.fullmatch(text)
    return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
