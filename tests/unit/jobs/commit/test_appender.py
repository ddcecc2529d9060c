"""Which batch counts as already committed."""

import json
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
    return Snapshot(70 + epoch, None, 0.0, "append", summary)


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
def appender_after(monkeypatch):
    def build(newest: Snapshot | None) -> Appender:
        # The history is read from Iceberg through the JVM; the decision needs only its newest commit.
        monkeypatch.setattr(SnapshotHistory, "__init__", lambda *_: None)
        monkeypatch.setattr(SnapshotHistory, "newest_of_query", lambda _, query: newest if query == "q" else None)
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
