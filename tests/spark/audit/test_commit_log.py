"""The commit log has each commit once, and the newest audit result is in the state of Gold."""

from collections import Counter
from datetime import timedelta

import pytest
from msgspec import UNSET

from k2.jobs.app import App
from k2.jobs.audit.completeness.hours import HourCompleteness
from k2.jobs.audit.status import AuditStatus
from k2.jobs.audit.verdicts import store
from k2.jobs.audit.verdicts.chain import Chain
from k2.jobs.audit.verdicts.verdict import LayerDigests, new_row
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.stream import initial_state
from k2.schemas import tables
from k2.schemas.channels import TRADES
from k2.schemas.status import AuditResult
from k2.schemas.values import to_micros
from tests.spark.builders import HOUR, Lake, Record, consecutive, trade
from tests.spark.maintenance.test_purge import _ether, _other

pytestmark = pytest.mark.spark


def _rows(lake: Lake):
    return lake.table(tables.BATCHES_TABLE).collect()


def test_two_feeds_that_share_gold_and_silver_record_each_commit_once(lake: Lake):
    feed, other, kraken = lake.feed(), _other(lake), lake.feed("kraken")
    logs = [CommitLog(lake.spark, [one]) for one in (feed, other, kraken)]
    for number in (1, 2, 3):
        lake.arrive(feed, [trade(number)])
        lake.arrive(other, _ether(number, number))
        lake.arrive(kraken, [trade(number, exchange="kraken")])
        for one in (feed, other, kraken):
            lake.run(one, "silver", "gold")
        counts = [log.record() for log in logs]
        assert counts == [3, 3, 3]
    assert [CommitLog(lake.spark, [one]).record() for one in (feed, other, kraken)] == [0, 0, 0]
    rows = _rows(lake)
    written = [
        snapshot.id
        for table in (*map(TRADES.bronze, ("binance", "kraken")), *map(TRADES.silver, ("binance", "kraken")),
                      tables.GOLD_TABLE)
        for snapshot in lake.snapshots(table)
        if snapshot.epoch >= 0
    ]  # fmt: skip
    assert Counter(row["snapshot_id"] for row in rows) == Counter(written)
    assert Counter(row["exchange"] for row in rows) == {"BINANCE": 18, "KRAKEN": 9}


def test_older_commits_are_recorded_after_those_of_another_feed(lake: Lake):
    feed, other = lake.feed(), _other(lake)
    lake.arrive(feed, [trade(1)])
    lake.arrive(other, _ether(1, 1))
    assert CommitLog(lake.spark, [other]).record() == 1
    assert CommitLog(lake.spark, [feed]).record() == 1


def test_a_silver_commit_waits_for_its_dead_letters_unless_the_streams_are_settled(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(1), Record(b"bad")])
    lake.run(feed, "silver")
    log = CommitLog(lake.spark, [feed])
    assert log.record(settled=False) == 1
    assert {row["layer"] for row in _rows(lake)} == {"bronze"}
    assert log.record(settled=True) == 1
    assert {row["layer"]: row["dead_letters"] for row in _rows(lake)} == {"bronze": 0, "silver": 1}


def test_only_the_driver_that_runs_gold_writes_the_commit_log(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 2))
    for layers, expected in ((("bronze",), 0), (("silver",), 0), (("gold",), 1)):
        App(lake.spark, lake.platform, [feed], layers, restart=False)._record_commits(settled=True)
        assert len(_rows(lake)) == expected


def _hour(state: str, hours: int, symbol: str = "BTCUSDT") -> HourCompleteness:
    return HourCompleteness("BINANCE", "trades", symbol, HOUR + timedelta(hours=hours), "1", "2", 2, 1, (), {}, state)


def _write(lake: Lake, hours: list[HourCompleteness], checked) -> None:
    chain, at = Chain(), to_micros(checked)
    store.append(lake.spark, [chain.append(new_row(hour, LayerDigests(), None, at)) for hour in hours], at)


def test_audit_status_counts_incomplete_hours_of_the_feeds_own_symbols(lake: Lake):
    feed = lake.feed()
    state = initial_state(feed, TRADES, "gold")
    status = AuditStatus(lake.spark, [(feed, state)])
    status.refresh(HOUR)
    assert state.status().audit is UNSET
    checked = HOUR + timedelta(hours=3)
    hours = [_hour("incomplete", 0), _hour("incomplete", 1), _hour("complete", 2), _hour("incomplete", 0, "ETHUSDT")]
    _write(lake, hours, checked)
    status.refresh(checked)
    assert state.status().audit == AuditResult(incomplete_hours=2, checked_at="2026-03-02T13:00:00+00:00")
    _write(lake, [_hour("complete", 1)], checked + timedelta(minutes=1))
    status.refresh(checked + timedelta(minutes=2))
    assert state.status().audit == AuditResult(incomplete_hours=1, checked_at="2026-03-02T13:01:00+00:00")
    status.refresh(HOUR + timedelta(days=7, minutes=30))
    assert state.status().audit.incomplete_hours == 0


def test_audit_status_is_empty_without_an_audit_of_the_feed(lake: Lake):
    feed = lake.feed()
    state = initial_state(feed, TRADES, "gold")
    _write(lake, [_hour("incomplete", 0, "ETHUSDT")], HOUR)
    AuditStatus(lake.spark, [(feed, state)]).refresh(HOUR)
    assert state.incomplete_hours is None
