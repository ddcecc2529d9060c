"""Closed days of Gold are tagged, and tagged snapshots outlive the expiry of others."""

from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.maintenance import daily_tags, runner
from k2.jobs.maintenance.runner import Maintenance
from k2.query.engine import Engine
from k2.schemas import tables
from k2.schemas.tables import GOLD_TABLE, day_tag
from tests.spark.builders import Lake, trade

pytestmark = pytest.mark.spark

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def few_snapshots(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "MIN_SNAPSHOTS", 1)
    monkeypatch.setattr(runner, "_GOLD_HISTORY", timedelta())


def _noon() -> datetime:
    """Return noon of the current day, the day of the commits."""
    return datetime.now(UTC).replace(hour=12)


def _arrive(lake: Lake, feed, *numbers: int) -> None:
    for number in numbers:
        lake.arrive(feed, [trade(number)])
        lake.run(feed, "silver", "gold")


def _maintain(lake: Lake, feed, now: datetime) -> dict[str, object]:
    report = Maintenance(lake.spark, lake.platform, [feed]).run(now=now, orphans=False)
    assert report["errors"] == []
    return report["tables"].get(tables.GOLD, {})


def test_a_closed_day_is_tagged_once_and_can_be_read_after_other_snapshots_expired(lake: Lake):
    feed = lake.feed(bronze={"retention": "3000d"}, silver={"retention": "3000d"})
    _arrive(lake, feed, 1, 2)
    today, history = _noon(), SnapshotHistory(lake.spark, GOLD_TABLE)
    assert "tagged_days" not in _maintain(lake, feed, today)
    assert _maintain(lake, feed, today + DAY)["tagged_days"] == 1
    tag = day_tag(today.date())
    tagged = history.refs()[tag]
    _arrive(lake, feed, 3, 4, 5)
    assert "tagged_days" not in _maintain(lake, feed, today + DAY)
    assert _maintain(lake, feed, today + 2 * DAY)["tagged_days"] == 1
    _arrive(lake, feed, 6)
    assert _maintain(lake, feed, today + 2 * DAY)["expired_snapshots"] > 0
    assert history.refs()[tag] == tagged
    with closing(Engine(lake.platform)) as engine:
        tags = {row["tags"]: row["snapshot_id"] for row in engine.snapshots().to_pylist() if row["tags"]}
        assert tags == {name: snapshot for name, snapshot in history.refs().items() if name != "main"}
        assert engine.trades(as_of=tag).column("trade_id").to_pylist() == ["1", "2"]
        assert engine.trades(as_of=day_tag((today + DAY).date())).num_rows == 5
        assert engine.trades().num_rows == 6
    _arrive(lake, feed, 7)  # the streams continue after the expiry


def test_an_old_tag_expires_and_its_snapshot_with_it(lake: Lake):
    feed = lake.feed(bronze={"retention": "3000d"}, silver={"retention": "3000d"})
    _arrive(lake, feed, 1)
    history = SnapshotHistory(lake.spark, GOLD_TABLE)
    old = next(history.snapshots()).id
    history.java_table().manageSnapshots().createTag("day-2026-03-02", old).setMaxRefAgeMs("day-2026-03-02", 1).commit()
    _arrive(lake, feed, 2, 3, 4)
    _maintain(lake, feed, datetime.now(UTC))
    assert set(history.refs()) == {"main"}
    _arrive(lake, feed, 5)
    _maintain(lake, feed, datetime.now(UTC))
    assert old not in {snapshot.id for snapshot in history.snapshots()}


def test_untagged_days_are_tagged_later_but_none_before_the_first_commit():
    ends = daily_tags.closed_days(datetime(2026, 3, 10, 0, 30, tzinfo=UTC), date(2026, 3, 8))
    assert ends == [date(2026, 3, 8), date(2026, 3, 9)]
    assert daily_tags.closed_days(datetime(2026, 3, 9, 23, 59, tzinfo=UTC), date(2026, 3, 9)) == []
    assert len(daily_tags.closed_days(datetime(2026, 3, 10, tzinfo=UTC), date(2020, 1, 1))) == 7
