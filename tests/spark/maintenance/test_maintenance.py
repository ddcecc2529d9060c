"""Maintenance: tables get smaller, and no running or stopped stream misses or repeats a row."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from k2.jobs.audit.runner import audit
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.maintenance import history
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.jobs.maintenance.runner import Maintenance
from k2.schemas import tables
from k2.schemas.channels import TRADES
from tests.spark.builders import HOUR, Lake, Record, consecutive, numbers, trade

pytestmark = pytest.mark.spark

BRONZE, SILVER = TRADES.bronze("binance"), TRADES.silver("binance")
# Commits are made now, whatever the times of their trades: an hour from now they are old.
SOON = timedelta(hours=2)


@pytest.fixture(autouse=True)
def few_snapshots(monkeypatch: pytest.MonkeyPatch):
    """Keep three snapshots instead of a hundred, so that small tables are enough."""
    monkeypatch.setattr(history, "MIN_SNAPSHOTS", 3)
    monkeypatch.setattr(history, "GOLD", replace(history.GOLD, age=timedelta(hours=1)))


def _maintain(lake: Lake, *feeds, now: datetime | None = None, orphans: bool = False):
    report = Maintenance(lake.spark, lake.platform, feeds).run(now=now or datetime.now(UTC) + SOON, orphans=orphans)
    assert report["errors"] == []
    return report["tables"]


def _retaining(lake: Lake):
    """Return a feed with a retention that covers the fixed time of the tests."""
    return lake.feed(bronze={"retention": "3000d"}, silver={"retention": "3000d"})


def _arrive(lake: Lake, feed, first: int, batches: int) -> None:
    for number in range(first, first + batches):
        lake.arrive(feed, [trade(number)])


def _files(lake: Lake, table) -> int:
    return lake.spark.table(f"{table.identifier}.files").count()


def _ids(lake: Lake, table) -> list[int]:
    return [snapshot.id for snapshot in lake.snapshots(table)]


def test_snapshots_that_a_stopped_reader_needs_are_kept(lake: Lake):
    feed = _retaining(lake)
    _arrive(lake, feed, 1, 2)
    lake.run(feed, "silver", "gold")
    position = _ids(lake, BRONZE)[0]
    _arrive(lake, feed, 3, 6)
    report = _maintain(lake, feed)
    assert report[BRONZE.name]["expired_snapshots"] == 1
    assert report[BRONZE.name]["held_by"] == "binance-trades-silver"
    assert position in _ids(lake, BRONZE)
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == list(range(1, 9))


def test_the_start_of_a_planned_but_uncommitted_batch_is_kept(lake: Lake):
    feed = _retaining(lake)
    _arrive(lake, feed, 1, 1)
    lake.run(feed, "silver", "gold")
    before = _ids(lake, BRONZE)[0]
    _arrive(lake, feed, 2, 5)
    lake.run(feed, "silver", "gold")
    for layer in ("silver", "gold"):
        commits = lake.checkpoint(feed, layer) / "commits"
        (commits / "1").unlink()
        (commits / ".1.crc").unlink(missing_ok=True)
    _maintain(lake, feed)
    assert before in _ids(lake, BRONZE)
    lake.run(feed, "silver", "gold")
    assert numbers(lake.silver()) == numbers(lake.gold) == list(range(1, 7))


def test_a_reader_continues_after_compaction_and_expiry_and_the_audit_is_clean(lake: Lake):
    feed = _retaining(lake)
    _arrive(lake, feed, 1, 2)
    lake.run(feed, "silver", "gold")
    for number in range(3, 8):
        lake.arrive(feed, [trade(number)])
        lake.run(feed, "silver", "gold")
    lake.arrive(feed, [trade(8)])
    report = _maintain(lake, feed)
    assert report[BRONZE.name]["compacted_files"] == 8
    assert report[SILVER.name]["compacted_files"] >= 5
    assert report[tables.GOLD]["compacted_files"] >= 5
    assert _files(lake, tables.GOLD_TABLE) == 1
    assert min(report[name]["expired_snapshots"] for name in (BRONZE.name, SILVER.name, tables.GOLD)) > 0
    lake.arrive(feed, [trade(9), trade(2)])
    lake.run(feed, "silver", "gold")
    assert numbers(lake.silver()) == [1, 2, 2, 3, 4, 5, 6, 7, 8, 9]
    assert numbers(lake.gold) == list(range(1, 10))
    assert audit(lake.spark, lake.platform, rebuild=True).findings == []


def test_a_reader_that_started_at_an_expired_snapshot_drains(lake: Lake):
    """The checkpoint's first offset outlives its snapshot; only the current position matters."""
    feed = _retaining(lake)
    _arrive(lake, feed, 1, 6)
    lake.run(feed, "silver")
    first = _ids(lake, BRONZE)[-1]
    _maintain(lake, feed)
    assert first not in _ids(lake, BRONZE)
    _arrive(lake, feed, 7, 1)
    lake.run(feed, "silver")
    assert numbers(lake.silver()) == list(range(1, 8))


def test_compacted_gold_is_sorted_and_the_open_hour_is_not_compacted(lake: Lake):
    feed = _retaining(lake)
    later = HOUR + timedelta(hours=3)
    for number in range(1, 6):
        lake.arrive(feed, [trade(number, HOUR + timedelta(seconds=60 - number)), trade(100 + number, later)])
        lake.run(feed, "silver", "gold")
    report = _maintain(lake, feed, now=later + timedelta(minutes=90))
    assert report[tables.GOLD]["compacted_files"] == 5
    files = lake.spark.table(f"{tables.GOLD_TABLE.identifier}.files").selectExpr("partition.exchange_hour AS hour")
    assert sorted(row["hour"] for row in files.collect()) == [HOUR.hour] + [later.hour] * 5
    rows = lake.gold.where(f"exchange_hour = {HOUR.hour}").coalesce(1).select("timestamp").collect()
    assert rows == sorted(rows)


def test_the_newest_commit_of_every_query_is_kept(lake: Lake):
    feed, kraken = _retaining(lake), lake.feed("kraken")
    lake.arrive(kraken, [trade(1, exchange="kraken")])
    lake.run(kraken, "silver", "gold")
    guard = lake.snapshots(tables.GOLD_TABLE)[0]
    for number in range(1, 6):
        lake.arrive(feed, [trade(number)])
        lake.run(feed, "silver", "gold")
    assert _maintain(lake, feed)[tables.GOLD]["expired_snapshots"] > 0
    history = SnapshotHistory(lake.spark, tables.GOLD_TABLE)
    assert history.newest_of_query(guard.query_id) == guard
    commits = lake.checkpoint(kraken, "gold") / "commits"
    (commits / "0").unlink()
    (commits / ".0.crc").unlink(missing_ok=True)
    lake.run(kraken, "gold")
    assert lake.gold.where("exchange = 'KRAKEN'").count() == 1
    assert history.newest_of_query(guard.query_id) == guard


def test_old_rows_are_deleted_by_whole_days_and_the_audit_is_clean(lake: Lake):
    feed = lake.feed()
    today = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    old, week = today - timedelta(days=31), today - timedelta(days=8)
    # The last one is old and arrived today: a backfill, kept as long as trades that arrived with it.
    days = [trade(1, old), trade(2, week), trade(3, today), lake.record(trade(4, old))]
    backfill = Record(days.pop().value, at=today)
    for entry in (*days, backfill):
        lake.arrive(feed, [entry])
    lake.run(feed, "silver", "gold")
    report = _maintain(lake, feed, now=today + timedelta(hours=1))
    assert report[BRONZE.name]["deleted_rows"] == 2
    assert report[SILVER.name]["deleted_rows"] == 1
    assert sorted(row["offset"] for row in lake.bronze().collect()) == [2, 3]
    assert numbers(lake.silver()) == [2, 3, 4]
    assert numbers(lake.gold) == [1, 2, 3, 4]
    assert lake.snapshots(BRONZE)[0].operation == "delete"
    assert audit(lake.spark, lake.platform, now=today + timedelta(hours=2), rebuild=True).findings == []
    lake.arrive(feed, [trade(5, today)])
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == [1, 2, 3, 4, 5]


def test_a_reader_skips_manually_rewritten_rows(lake: Lake):
    """An overwrite adds no new row; later rows are still read, once."""
    feed = _retaining(lake)
    lake.arrive(feed, consecutive(1, 4))
    lake.run(feed, "silver", "gold")
    lake.sql("DELETE FROM {} WHERE offset = 0", SILVER)
    assert lake.snapshots(SILVER)[0].operation == "overwrite"
    lake.arrive(feed, consecutive(5, 6))
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == [1, 2, 3, 4, 5, 6]


def test_an_unreadable_position_stops_expiry_and_is_reported(lake: Lake):
    feed = _retaining(lake)
    _arrive(lake, feed, 1, 6)
    lake.run(feed, "silver")
    offsets = lake.checkpoint(feed, "silver") / "offsets" / "0"
    (offsets.parent / ".0.crc").unlink(missing_ok=True)
    offsets.write_text("v1\n")
    report = Maintenance(lake.spark, lake.platform, [feed]).run(now=datetime.now(UTC) + SOON, orphans=False)
    assert len(report["errors"]) == 1
    assert "the position of a reader cannot be read" in report["errors"][0]
    assert len(lake.snapshots(BRONZE)) >= 6


def test_recent_files_are_no_orphans(lake: Lake):
    feed = _retaining(lake)
    _arrive(lake, feed, 1, 1)
    lake.run(feed, "silver", "gold")
    assert not any("orphan_files" in report for report in _maintain(lake, feed, orphans=True).values())
    assert numbers(lake.gold) == [1]


@pytest.mark.slow
def test_two_concurrent_drivers_skip_at_most_a_step(lake: Lake):
    feeds = _retaining(lake), lake.feed("kraken", bronze={"retention": "3000d"}, silver={"retention": "3000d"})
    for number in range(1, 8):
        lake.arrive(feeds[0], [trade(number), Record(b"bad")])
        lake.arrive(feeds[1], [trade(number, exchange="kraken")])
        for feed in feeds:
            lake.run(feed, "silver", "gold")
    start, later = threading.Barrier(len(feeds)), datetime.now(UTC) + SOON

    def run(feed):
        start.wait()
        return Maintenance(lake.spark, lake.platform, [feed]).run(now=later)

    with ThreadPoolExecutor() as pool:
        reports = list(pool.map(run, feeds))
    assert [report["errors"] for report in reports] == [[], []]
    assert _files(lake, tables.GOLD_TABLE) == 1
    assert numbers(lake.gold.where("exchange = 'BINANCE'")) == list(range(1, 8))
    assert lake.gold.where("exchange = 'KRAKEN'").count() == 7
    assert lake.dead.count() == 7


def test_snapshots_that_another_driver_just_expired_are_a_conflict_not_an_error(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    feed, too_old, first_call = _retaining(lake), history.too_old, []
    _arrive(lake, feed, 1, 8)
    lake.run(feed, "silver")

    def expire_first(snapshots, *rest):
        expired = too_old(snapshots, *rest)
        if not first_call:
            first_call.append(expired)  # before the nested call, which runs this function too
            _maintain(lake, feed)
        return expired

    monkeypatch.setattr(history, "too_old", expire_first)
    assert _maintain(lake, feed)[BRONZE.name]["expired_snapshots"] == "conflict"
    assert len(first_call[0]) > len(_ids(lake, BRONZE)) == 3


def test_a_history_that_is_too_large_is_trimmed_but_not_what_the_ledger_or_the_bars_lack(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    feed = _retaining(lake)
    _arrive(lake, feed, 1, 1)
    lake.run(feed, "silver", "gold")
    BarMaintainer(lake.spark).run()
    for number in range(2, 9):
        _arrive(lake, feed, number, 1)
        lake.run(feed, "silver", "gold")
    one = history.size(lake.snapshots(tables.GOLD_TABLE)[0])
    limits = history.Limits(timedelta(days=7), 3 * one + 100, timedelta())
    monkeypatch.setattr(history, "GOLD", limits)
    now = datetime.now(UTC) + timedelta(seconds=1)
    trim = partial(Maintenance(lake.spark, lake.platform, [feed]).trim, now=now)
    assert trim() == {"tables": {tables.GOLD: {"held_by": "bars"}}, "errors": []}
    BarMaintainer(lake.spark).run()
    assert trim() == {"tables": {}, "errors": []}  # the ledger has none of the commits
    assert CommitLog(lake.spark, [feed]).record() == 24
    assert trim() == {"tables": {tables.GOLD: {"expired_snapshots": 4}}, "errors": []}
    assert len(_ids(lake, tables.GOLD_TABLE)) == 4  # the current one, and what fits
    assert audit(lake.spark, lake.platform, rebuild=True).findings == []


def test_the_report_is_json(lake: Lake):
    feed = _retaining(lake)
    assert json.loads(json.dumps(Maintenance(lake.spark, lake.platform, [feed]).run())) == {"tables": {}, "errors": []}
