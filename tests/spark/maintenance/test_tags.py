"""Hours, closed days and months of Gold are tagged, and tagged snapshots outlive the expiry of others."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.maintenance import history
from k2.jobs.maintenance.runner import Maintenance
from k2.query.engine import Engine
from k2.schemas import tables
from k2.schemas.tables import GOLD_TABLE, day_tag
from tests.spark.builders import Lake, trade

pytestmark = pytest.mark.spark

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def few_snapshots(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "MIN_SNAPSHOTS", 1)
    monkeypatch.setattr(history, "GOLD", replace(history.GOLD, age=timedelta()))


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
    today, snapshots = _noon(), SnapshotHistory(lake.spark, GOLD_TABLE)
    day, next_day = day_tag(today.date()), day_tag((today + DAY).date())
    _maintain(lake, feed, today)
    assert day not in snapshots.refs()
    _maintain(lake, feed, today + DAY)
    tagged = snapshots.refs()[day]
    _arrive(lake, feed, 3, 4, 5)
    assert "new_tags" not in _maintain(lake, feed, today + DAY)
    _maintain(lake, feed, today + 2 * DAY)
    _arrive(lake, feed, 6)
    assert _maintain(lake, feed, today + 2 * DAY)["expired_snapshots"] > 0
    assert snapshots.refs()[day] == tagged
    with closing(Engine(lake.platform)) as engine:
        named = {name: row["snapshot_id"] for row in engine.snapshots().to_pylist() for name in _names(row)}
        assert named == {name: snapshot for name, snapshot in snapshots.refs().items() if name != "main"}
        assert engine.trades(as_of=day).column("trade_id").to_pylist() == ["1", "2"]
        assert engine.trades(as_of=next_day).num_rows == 5
        assert engine.trades().num_rows == 6
    _arrive(lake, feed, 7)  # the streams continue after the expiry


def _names(row: dict[str, str | None]) -> list[str]:
    return (row["tags"] or "").split()


@pytest.mark.slow
def test_an_old_tag_expires_and_its_snapshot_with_it(lake: Lake):
    feed = lake.feed(bronze={"retention": "3000d"}, silver={"retention": "3000d"})
    _arrive(lake, feed, 1)
    snapshots = SnapshotHistory(lake.spark, GOLD_TABLE)
    old = next(snapshots.snapshots()).id
    snapshots.java_table().manageSnapshots().createTag("day-2026-03-02", old).setMaxRefAgeMs(
        "day-2026-03-02", 1
    ).commit()
    _arrive(lake, feed, 2, 3, 4)
    _maintain(lake, feed, datetime.now(UTC))
    assert "day-2026-03-02" not in snapshots.refs()
    _arrive(lake, feed, 5)
    _maintain(lake, feed, datetime.now(UTC))
    assert old not in {snapshot.id for snapshot in snapshots.snapshots()}
