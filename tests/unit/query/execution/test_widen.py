"""The time range in which copies of a record are searched."""

from datetime import UTC, datetime, timedelta

from k2.query.execution.hybrid import widen
from k2.query.sql.record_sql import RecordFilter

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_both_ends_are_widened_by_a_second():
    narrow = RecordFilter("BTCUSDT", "BINANCE", NOON, NOON + SECOND)
    assert widen(narrow) == RecordFilter("BTCUSDT", "BINANCE", NOON - SECOND, NOON + 2 * SECOND)


def test_an_open_end_stays_open():
    assert widen(RecordFilter("BTCUSDT")) == RecordFilter("BTCUSDT")
    assert widen(RecordFilter(start=NOON)) == RecordFilter(start=NOON - SECOND)
    assert widen(RecordFilter(end=NOON)) == RecordFilter(end=NOON + SECOND)


def test_an_end_that_cannot_be_widened_is_kept():
    last = datetime.max.replace(tzinfo=UTC)
    assert widen(RecordFilter(start=datetime.min.replace(tzinfo=UTC), end=last)).end == last
