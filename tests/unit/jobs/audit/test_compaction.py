"""Which partitions of its tables the audit compacts."""

from datetime import UTC, datetime

from k2.jobs.audit.compaction import Period, periods
from k2.jobs.audit.incremental.file_sets import LiveFile

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
FEBRUARY = Period(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))
MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
MONTHS = "hour_month=2026-02", "hour_month=2026-03"


def _files(partition: str, count: int, size: int = 1 << 10) -> list[LiveFile]:
    return [LiveFile(f"{partition}/{number}", "data file", size, 1, partition, number) for number in range(count)]


def test_the_time_of_a_partition():
    assert [Period.of(name) for name in MONTHS] == [FEBRUARY, MARCH]
    december = Period.of("received_at_month=2025-12")
    assert december == Period(datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    day = Period.of("detected_at_day=2026-02-28")
    assert day == Period(datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))
    assert Period.of("exchange=BINANCE") is None


def test_a_closed_partition_is_compacted_for_fewer_files_than_an_open_one():
    assert periods([*_files(MONTHS[0], 4), *_files(MONTHS[1], 47)], NOW) == []
    assert periods([*_files(MONTHS[0], 5), *_files(MONTHS[1], 47)], NOW) == [FEBRUARY]
    assert periods([*_files(MONTHS[0], 4), *_files(MONTHS[1], 48)], NOW) == [MARCH]
    just_closed = datetime(2026, 4, 1, 0, 59, tzinfo=UTC)
    assert periods(_files(MONTHS[1], 5), just_closed) == []
    assert periods(_files(MONTHS[1], 5), just_closed.replace(hour=1, minute=0)) == [MARCH]


def test_files_that_are_large_enough_are_left_alone():
    assert periods(_files(MONTHS[0], 50, 48 << 20), NOW) == []
    assert periods([*_files(MONTHS[0], 4), *_files(MONTHS[0], 50, 48 << 20)], NOW) == []


def test_one_audit_compacts_no_more_than_a_number_of_bytes_the_partitions_with_most_files_first():
    assert periods([*_files(MONTHS[0], 8, 16 << 20), *_files(MONTHS[1], 50, 3 << 20)], NOW) == [MARCH]
    assert periods([*_files(MONTHS[0], 6, 16 << 20), *_files(MONTHS[1], 50, 3 << 20)], NOW) == [MARCH, FEBRUARY]
    assert periods(_files(MONTHS[0], 10, 40 << 20), NOW) == [FEBRUARY]
