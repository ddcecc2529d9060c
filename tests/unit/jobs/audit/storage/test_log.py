"""Rollbacks, from the numbers of a table's commits."""

from k2.jobs.audit.storage.log import Rollback, rollbacks
from k2.jobs.commit.snapshots import Log, Snapshot


def _snapshot(number: int, parent: int | None, sequence: int) -> Snapshot:
    return Snapshot(number, parent, float(number), "append", {}, sequence)


def test_a_log_without_a_jump_has_no_rollback():
    snapshots = (_snapshot(3, 2, 3), _snapshot(2, 1, 2), _snapshot(1, None, 1))
    assert list(rollbacks(Log(snapshots, 3))) == []
    assert list(rollbacks(Log())) == []


def test_a_table_that_ends_before_its_last_commit_was_rolled_back():
    (rollback,) = rollbacks(Log((_snapshot(1, None, 1),), 3, (2, 3)))
    assert rollback == Rollback(1, 2, (2, 3))
    assert rollback.text == "rolled back to snapshot 1; 2 commits were undone: 2, 3"


def test_a_rollback_is_seen_after_later_commits_but_expired_snapshots_are_none():
    rolled_back = (_snapshot(5, 1, 4), _snapshot(1, None, 1))
    assert list(rollbacks(Log(rolled_back, 4))) == [Rollback(1, 2)]
    expired = (_snapshot(5, 4, 4), _snapshot(1, None, 1))
    assert list(rollbacks(Log(expired, 4))) == []
