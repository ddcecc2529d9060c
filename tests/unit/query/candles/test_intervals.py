"""Where bars begin: in any zone, on days of 23 and 25 hours, by weeks and by months."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.query.candles.intervals import Interval, parse_interval
from k2.query.errors import BadQuery

HOUR = timedelta(hours=1)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Atlantic/Azores",
    "America/Santiago",
    "Asia/Beirut",
]
INTERVALS = ["1s", "45s", "1m", "5m", "45m", "1h", "4h", "1d", "1w", "1M"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def lengths(interval: str, zone: str, start: str, end: str) -> list[float]:
    parsed = parse_interval(interval, zone)
    return [(parsed.after(opened) - opened) / HOUR for opened in parsed.opens(at(start), at(end))]


def test_a_day_whose_clocks_change_has_23_or_25_hours() -> None:
    spring = ("2026-03-28T23:00Z", "2026-03-29T22:00Z")
    autumn = ("2026-10-24T22:00Z", "2026-10-25T23:00Z")
    assert lengths("1d", "Europe/Berlin", *spring) == [23]
    assert lengths("1d", "Europe/Berlin", *autumn) == [25]
    assert lengths("1h", "Europe/Berlin", *spring) == [1] * 23
    assert lengths("1h", "Europe/Berlin", *autumn) == [1] * 25
    assert lengths("4h", "Europe/Berlin", *spring) == [4] * 5 + [3]
    assert lengths("4h", "Europe/Berlin", *autumn) == [4] * 6 + [1]


def test_a_midnight_that_comes_twice_or_never_begins_one_day() -> None:
    azores = Interval(timedelta(days=1), parse_interval("1d", "Atlantic/Azores").zone)
    assert azores.floor(at("2026-10-25T00:30Z")) == azores.floor(at("2026-10-25T01:30Z")) == at("2026-10-25T00:00Z")
    beirut = parse_interval("1d", "Asia/Beirut")
    assert beirut.floor(at("2026-03-28T22:00Z")) == at("2026-03-28T22:00Z")  # its clocks go from 0:00 to 1:00
    assert beirut.floor(at("2026-03-28T21:59Z")) == at("2026-03-27T22:00Z")


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    moment = at("2026-01-31T12:00Z")
    assert parse_interval("1w").floor(moment) == at("2026-01-26T00:00Z")
    assert parse_interval("1M").floor(moment) == at("2026-01-01T00:00Z")
    assert parse_interval("1M").after(at("2026-01-01T00:00Z")) == at("2026-02-01T00:00Z")
    assert parse_interval("1w", "Europe/Berlin").floor(moment) == at("2026-01-25T23:00Z")
    assert lengths("1M", "Europe/Berlin", "2026-02-15T00:00Z", "2026-04-15T00:00Z") == [28 * 24, 31 * 24 - 1, 30 * 24]


@given(
    st.sampled_from(INTERVALS),
    st.sampled_from(ZONES),
    st.integers(0, 315_360_000).map(lambda second: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=second)),
    st.one_of(st.integers(1, 40), st.integers(80, 120)),
)
def test_bars_follow_each_other_without_a_break(text: str, zone: str, moment: datetime, number: int) -> None:
    interval = parse_interval(text, zone)
    opened = interval.floor(moment)
    assert opened <= moment < interval.after(opened)
    assert interval.floor(opened) == opened == interval.floor(interval.after(opened) - timedelta(microseconds=1))
    earliest = interval.back(interval.after(opened), number)
    assert len(list(interval.opens(earliest, interval.after(opened)))) == number


@pytest.mark.parametrize("text", ["", "7m", "2d", "2w", "2M", "1y", "0s", "1M ", "90000s", "-1m", "1H"])
def test_what_does_not_fill_a_day_a_week_or_a_month_is_no_interval(text: str) -> None:
    with pytest.raises(BadQuery, match="is not an interval; use 1s to 1d"):
        parse_interval(text)


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "\0", "+02:00"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(BadQuery, match="is not a time zone; give its IANA name"):
        parse_interval("1h", zone)
