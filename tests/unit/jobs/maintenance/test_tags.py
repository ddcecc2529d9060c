"""Which tags Gold has, and for how long."""

from datetime import UTC, date, datetime, timedelta

from k2.jobs.commit.snapshots import Snapshot
from k2.jobs.maintenance import tags

HOUR = timedelta(hours=1)
NOW = datetime(2026, 3, 1, 14, 30, tzinfo=UTC)


def _snapshot(number: int, at: datetime) -> Snapshot:
    return Snapshot(number, number - 1, at.timestamp(), "append", {}, number)


def test_untagged_days_are_tagged_later_but_none_before_the_first_commit():
    ends = tags.closed_days(datetime(2026, 3, 10, 0, 30, tzinfo=UTC), date(2026, 3, 8))
    assert ends == [date(2026, 3, 8), date(2026, 3, 9)]
    assert tags.closed_days(datetime(2026, 3, 9, 23, 59, tzinfo=UTC), date(2026, 3, 9)) == []
    assert len(tags.closed_days(datetime(2026, 3, 10, tzinfo=UTC), date(2020, 1, 1))) == 7


def test_a_tag_names_the_newest_snapshot_of_its_time():
    end = datetime(2026, 3, 1, 14, tzinfo=UTC)
    newest_first = [
        _snapshot(3, end),
        _snapshot(2, end - timedelta(milliseconds=1)),
        _snapshot(1, datetime(2026, 3, 1, 0, 59, 59, tzinfo=UTC)),
        _snapshot(0, datetime(2026, 2, 28, 23, 59, tzinfo=UTC)),
    ]
    created = tags.missing(newest_first, ["main", "hour-2026-03-01T12"], NOW)
    assert created["hour-2026-03-01T13"] == 2
    assert "hour-2026-03-01T12" not in created
    assert created["hour-2026-03-01T11"] == created["hour-2026-03-01T00"] == 1
    assert created["hour-2026-02-28T23"] == 0
    # Records of a day's last minute are committed in the hour after it.
    assert created["day-2026-02-28"] == created["month-2026-02"] == 1
    assert not {"hour-2026-03-01T14", "hour-2026-02-28T22", "day-2026-03-01", "month-2026-03"} & created.keys()


def test_a_day_and_a_month_are_tagged_an_hour_after_their_end():
    newest_first = [_snapshot(0, datetime(2026, 2, 27, tzinfo=UTC))]
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    before = tags.missing(newest_first, [], midnight + HOUR - timedelta(seconds=1))
    after = tags.missing(newest_first, before, midnight + HOUR)
    assert {"day-2026-02-27"} == {name for name in before if not name.startswith("hour")}
    assert {"day-2026-02-28", "month-2026-02"} == {name for name in after if not name.startswith("hour")}


def test_a_table_without_commits_has_no_tags():
    assert tags.missing([], [], NOW) == {}


def test_hours_are_tagged_for_a_week_days_for_ninety_and_months_and_other_tags_for_ever():
    first = datetime(2020, 1, 1, tzinfo=UTC)
    refs = {
        "main",
        "before-upgrade",
        "day-of-release",
        "hour-2026",
        "month-2020-01",
        *(n for n, _ in tags.due(NOW, first)),
    }
    assert tags.outdated(refs, NOW) == []
    later = NOW + tags.HOURS_FOR
    hours = {name for name in refs if name.startswith("hour-2026-")}
    assert hours - set(tags.outdated(refs, later)) == {"hour-2026-03-01T13"}  # the state at 14:00, a week before
    assert not [name for name in tags.outdated(refs, NOW + timedelta(days=83)) if name.startswith("day")]
    assert set(tags.outdated(refs, NOW + timedelta(days=4000))) == {
        name for name in refs if name.startswith(("hour-2026-", "day-2026"))
    }


def test_what_is_due_begins_a_week_ago_and_with_the_first_commit():
    first = datetime(2020, 1, 1, tzinfo=UTC)

    def oldest_hour(now: datetime) -> str:
        return min(name for name, _ in tags.due(now, first) if name.startswith("hour"))

    whole = NOW.replace(minute=0)
    assert (oldest_hour(NOW), oldest_hour(whole)) == ("hour-2026-02-22T13", "hour-2026-02-22T12")
    begun = [name for name, _ in tags.due(NOW, datetime(2026, 3, 1, tzinfo=UTC))]
    assert (len(begun), begun[-1]) == (14, "hour-2026-03-01T00")
    assert tags.has_last_hour({"hour-2026-03-01T13"}, NOW)
    assert not tags.has_last_hour({"hour-2026-03-01T12", "hour-2026-03-01T15"}, NOW)


def test_the_tag_of_a_reader_that_died_goes_after_a_day():
    left = [f"{reader}-2026-02-28T14-30-00-000000" for reader in ("audit", "bars", "rebuild")]
    assert tags.outdated([*left, "before-rebuild-20200101T000000"], NOW + timedelta(seconds=1)) == left
    assert tags.outdated(left, NOW) == []


def test_a_purge_reaches_the_tags_of_before_and_no_other():
    purged = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
    snapshots = [_snapshot(2, purged + HOUR), _snapshot(1, purged), _snapshot(0, purged - HOUR)]
    refs = {
        "main": 2,
        "hour-2026-03-01T11": 2,
        "hour-2026-03-01T10": 1,
        "day-2026-02-28": 0,
        "month-2026-02": 0,
        "mine": 0,
    }
    assert tags.with_purged_rows(refs, snapshots, purged.timestamp()) == [
        "hour-2026-03-01T10", "day-2026-02-28", "month-2026-02",
    ]  # fmt: skip
    assert tags.with_purged_rows(refs, snapshots, 0.0) == []
