"""Which batch counts as already committed."""

import json
from dataclasses import replace
from typing import Any

import pytest

from k2.jobs.commit.appender import Appender
from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.lineage import BatchContents
from k2.jobs.commit.snapshots import Offsets, Snapshot, SnapshotHistory
from k2.schemas.snapshots import EPOCH, OFFSETS, QUERY
from k2.schemas.tables import GOLD_TABLE

OFFSETS_OF_7 = {"trades": {"0": [5, 9]}}


def commit(epoch: int) -> Snapshot:
    summary = {QUERY: "q", EPOCH: str(epoch), OFFSETS: json.dumps(OFFSETS_OF_7)}
    return Snapshot(70 + epoch, None, 0.0, "append", summary, sequence=10 + epoch)


def other_commit(sequence: int, query: str = "other") -> Snapshot:
    return Snapshot(sequence, None, 0.0, "append", {QUERY: query, EPOCH: "99"}, sequence=sequence)


class Contents:
    """A source whose batches all have these contents."""

    def __init__(self, offsets: Offsets) -> None:
        self._contents = BatchContents(offsets, rows=5)

    def contents(self, frame: Any, epoch: int) -> BatchContents:
        return self._contents

    def rows(self, frame: Any, epoch: int) -> Any:
        raise AssertionError("the decision reads no rows")


def batch(epoch: int, offsets: Offsets) -> IncrementalBatch:
    return IncrementalBatch(Contents(offsets), None, epoch, "BINANCE")  # type: ignore[arg-type]


@pytest.fixture
def commits() -> list[Snapshot]:
    """The table's commits, newest first."""
    return []


@pytest.fixture
def appender_after(monkeypatch, commits):
    def build(newest: Snapshot | None) -> Appender:
        commits[:] = [newest] if newest is not None else []
        # The history is read from Iceberg through the JVM; the decision needs only its commits, the newest first.
        monkeypatch.setattr(SnapshotHistory, "__init__", lambda *_: None)
        monkeypatch.setattr(SnapshotHistory, "snapshots", lambda _: iter(commits))
        return Appender(None, GOLD_TABLE, "q")  # type: ignore[arg-type]

    return build


def test_the_newest_batch_with_the_same_offsets_is_committed(appender_after):
    assert appender_after(commit(7)).find_committed(batch(7, OFFSETS_OF_7)) == commit(7)
    assert appender_after(commit(7)).last_commit == commit(7)


def test_a_later_batch_is_not_committed(appender_after):
    assert appender_after(commit(7)).find_committed(batch(8, OFFSETS_OF_7)) is None
    assert appender_after(commit(7)).find_committed(batch(9, {})) is None


def test_without_a_commit_no_batch_is_committed(appender_after):
    assert appender_after(None).find_committed(batch(0, {})) is None
    assert appender_after(None).last_commit is None


@pytest.mark.parametrize(
    ("epoch", "offsets"),
    [(7, {"trades": {"0": [5, 10]}}), (7, {"trades": {"0": [5, 8]}}), (7, {}), (6, OFFSETS_OF_7), (5, OFFSETS_OF_7)],
)
def test_a_batch_that_differs_from_the_table_is_refused(appender_after, epoch, offsets):
    with pytest.raises(BrokenCheckpoint, match=f"batch {epoch} of query q differs .*newest batch there: 7"):
        appender_after(commit(7)).find_committed(batch(epoch, offsets))


def test_what_another_process_of_the_query_committed_meanwhile_counts(appender_after, commits):
    appender = appender_after(commit(7))
    commits[:0] = [other_commit(19, "r"), other_commit(18, "p")]
    assert appender.find_committed(batch(8, OFFSETS_OF_7)) is None
    commits.insert(0, replace(commit(9), sequence=20))
    with pytest.raises(BrokenCheckpoint, match=r"newest batch there: 9.*If another process runs this query"):
        appender.find_committed(batch(8, OFFSETS_OF_7))
    assert appender.find_committed(batch(9, OFFSETS_OF_7)) == commits[0]
    assert appender.last_commit == commit(7)


def test_commits_that_were_looked_at_are_not_read_again(appender_after, commits):
    appender = appender_after(commit(7))
    older = commit(6)
    commits[:] = [other_commit(18), other_commit(16), older]  # the one of batch 7, number 17, is expired
    assert appender.find_committed(batch(8, OFFSETS_OF_7)) is None
    assert appender.find_committed(batch(7, OFFSETS_OF_7)) == commit(7)
    commits[:] = [commit(8), *commits]  # as number 18, which was looked at
    assert appender.find_committed(batch(9, OFFSETS_OF_7)) is None
    assert appender.find_committed(batch(7, OFFSETS_OF_7)) == commit(7)
