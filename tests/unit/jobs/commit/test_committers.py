"""Two processes of one query: one that was replaced and wakes up, a batch that is committed again, any kill between.

What happened to others: two committers after a rebalance, a file committed twice, a coordinator that is a zombie
(apache/iceberg issues 17551, 16282, 17637). One seed is one history of processes that share a checkpoint. Afterwards
each record is in the table once, whatever the order was. The table is a list here; `tests/spark` has a real one.
"""

import json
import random
from collections.abc import Callable
from typing import Protocol

from k2.jobs.commit.appender import Appender
from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.lineage import BatchContents
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.schemas.snapshots import EPOCH, OFFSETS, QUERY
from k2.schemas.tables import GOLD_TABLE

TOPIC = "market.crypto.trades.binance"
BATCHES = 5  # of a history


class Process(Protocol):
    """A driver of the query, with what it knows since its start."""

    def commit(self, epoch: int) -> None:
        """Commit a batch, unless another process did. Raises `BrokenCheckpoint`."""


class History:
    """Processes of one query that start, sleep, wake up and are killed at any moment, by one seed."""

    def __init__(self, seed: int, start: Callable[["History"], Process]) -> None:
        self.partition, self.query = seed, f"query-{seed}"
        self.ranges: list[tuple[int, int]] = []  # first and last offset of each batch that the checkpoint planned
        self.done = -1  # the newest batch of which the checkpoint says that it is done
        self.refused = 0
        self._rng, self._start = random.Random(seed), start
        self._processes: dict[Process, int] = {}  # the batch that each is at

    def run(self) -> None:
        """Run processes until all batches are done, and then those that slept."""
        while self.done < BATCHES - 1:
            if not self._processes or (len(self._processes) < 3 and self._rng.random() < 0.3):
                self._plan(self.done + 1)
                self._processes[self._start(self)] = self.done + 1
            else:
                self._step(self._rng.choice(list(self._processes)))
        for process in list(self._processes):
            self._step(process)

    @property
    def offsets(self) -> list[int]:
        """All offsets of the partition."""
        return list(range(self.ranges[-1][1] + 1))

    def contents(self, epoch: int) -> BatchContents:
        """Return the contents of a batch, as the checkpoint has it."""
        first, last = self.ranges[epoch]
        return BatchContents({TOPIC: {str(self.partition): [first, last]}}, last - first + 1)

    def _plan(self, epoch: int) -> None:
        if epoch == len(self.ranges):
            first = self.ranges[-1][1] + 1 if epoch else 0
            self.ranges.append((first, first + self._rng.randint(0, 3)))

    def _step(self, process: Process) -> None:
        """Let a process commit the batch that it is at, and plan the next as Spark does: only one process can."""
        epoch = self._processes.pop(process)
        try:
            process.commit(epoch)
        except BrokenCheckpoint:
            self.refused += 1
            return
        if self._rng.random() < 0.25:
            return  # killed between the table's commit and the checkpoint's
        self.done = max(self.done, epoch)
        if epoch + 1 == len(self.ranges) and epoch + 1 < BATCHES:
            self._plan(epoch + 1)
            self._processes[process] = epoch + 1


class Listed:
    """A process that commits to a list, as a source of its own batches."""

    def __init__(self, history: History, table: list[Snapshot]) -> None:
        self._history, self._table = history, table
        self._appender = Appender(None, GOLD_TABLE, history.query)  # type: ignore[arg-type]

    def contents(self, frame: object, epoch: int) -> BatchContents:
        return self._history.contents(epoch)

    def commit(self, epoch: int) -> None:
        batch = IncrementalBatch(self, None, epoch, "BINANCE")  # type: ignore[arg-type]
        if self._appender.find_committed(batch) is None:
            summary = {QUERY: self._history.query, EPOCH: str(epoch), OFFSETS: json.dumps(batch.contents.offsets)}
            number = len(self._table) + 1
            self._table.insert(0, Snapshot(number, None, 0.0, "append", summary, number))


def test_each_record_is_there_once_whatever_process_commits(monkeypatch):
    table: list[Snapshot] = []
    monkeypatch.setattr(SnapshotHistory, "__init__", lambda *_: None)
    monkeypatch.setattr(SnapshotHistory, "snapshots", lambda _: iter(table))
    refused = 0
    for seed in range(200):
        table.clear()
        history = History(seed, lambda history: Listed(history, table))
        history.run()
        ranges = [json.loads(commit.summary[OFFSETS])[TOPIC][str(seed)] for commit in reversed(table)]
        stored = [offset for first, last in ranges for offset in range(first, last + 1)]
        assert stored == history.offsets, f"seed {seed}"
        refused += history.refused
    assert refused > 20  # zombies were there
