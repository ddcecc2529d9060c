"""What a layer derives from a micro-batch: contents, rows and snapshot properties."""

from types import SimpleNamespace

import pytest

from k2.jobs.commit.incremental_batch import SMALL_BATCH, IncrementalBatch
from k2.jobs.commit.lineage import BatchContents
from k2.schemas.snapshots import EXCHANGE, OFFSETS, ROWS_IN, STARTED, TOPIC_IDS

OFFSET_RANGES = {"k2.binance.trades": {"0": [5, 9]}}


class FakeSource:
    """Records what is read of which epoch."""

    def __init__(self, rows: int = 5) -> None:
        self.read: list[tuple[str, int]] = []
        self._contents = BatchContents(OFFSET_RANGES, rows, {"k2.binance.trades": "an id"})

    def rows(self, frame, epoch):
        self.read.append(("rows", epoch))
        return frame

    def contents(self, frame, epoch):
        self.read.append(("contents", epoch))
        return self._contents


def incremental_batch(source, frame=None):
    return IncrementalBatch(source, frame, 3, "BINANCE")


def test_properties_record_exchange_start_offsets_and_rows(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_772_000_000.25)
    assert incremental_batch(FakeSource()).properties == {
        EXCHANGE: "BINANCE",
        STARTED: "1772000000250000",
        OFFSETS: '{"k2.binance.trades":{"0":[5,9]}}',
        TOPIC_IDS: '{"k2.binance.trades":"an id"}',
        ROWS_IN: "5",
    }


def test_contents_and_rows_are_read_once_and_only_when_asked_for():
    source = FakeSource()
    batch = incremental_batch(source, frame="frame")
    assert source.read == []
    assert (batch.contents.rows, batch.contents.offsets, batch.properties[ROWS_IN]) == (5, OFFSET_RANGES, "5")
    assert source.read == [("contents", 3)]
    assert (batch.rows, batch.rows) == ("frame", "frame")
    assert source.read == [("contents", 3), ("rows", 3)]


@pytest.mark.parametrize(("rows", "expected"), [(SMALL_BATCH, "one"), (SMALL_BATCH + 1, "many")])
def test_only_a_small_batch_is_coalesced(rows, expected):
    frame = SimpleNamespace(partitions="many", coalesce=lambda _: SimpleNamespace(partitions="one"))
    assert incremental_batch(FakeSource(rows)).coalesce_small(frame).partitions == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, 1), (SMALL_BATCH, 1), (SMALL_BATCH + 1, 2), (5 * SMALL_BATCH, 5), (5 * SMALL_BATCH + 1, 6)],
)
def test_a_batch_is_coalesced_by_its_rows(rows, expected):
    frame = SimpleNamespace(coalesce=lambda partitions: partitions)
    assert incremental_batch(FakeSource(rows)).coalesce(frame) == expected
