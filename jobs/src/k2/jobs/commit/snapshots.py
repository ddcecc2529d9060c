"""Iceberg snapshots and their summaries: which batch of which query each commit is.

A commit and its summary are one atomic write. The summary therefore records exactly which batches a table holds: a
batch whose epoch is in a snapshot of the table is there completely; any other is not there at all.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession

from k2.jobs.commit.retry import retry_on_conflict
from k2.schemas.snapshots import EPOCH, QUERY
from k2.schemas.tables import Table

Offsets = dict[str, dict[str, list[int]]]  # topic, partition: first and last offset, both included


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One commit. `committed_at` is in seconds since 1970, `operation` is Iceberg's (append, overwrite, ...).

    `sequence` numbers the commits of a table, with none left out.
    """

    id: int
    parent: int | None
    committed_at: float
    operation: str
    summary: Mapping[str, str]
    sequence: int = 0

    @property
    def query_id(self) -> str:
        """Id of the streaming query that made the commit; empty for maintenance."""
        return self.summary.get(QUERY, "")

    @property
    def epoch(self) -> int:
        """Number of the micro-batch; -1 for maintenance."""
        return int(self.summary.get(EPOCH, -1))

    @property
    def rows(self) -> int:
        """Number of rows that the commit added."""
        return int(self.summary.get("added-records", 0))


@dataclass(frozen=True, slots=True)
class Log:
    """The snapshots of a table, newest first, the number of its last commit, and snapshots after the current one."""

    snapshots: tuple[Snapshot, ...] = ()
    last_sequence: int = 0
    lost: tuple[int, ...] = ()


class SnapshotHistory:
    """The snapshots and refs of one table."""

    def __init__(self, spark: SparkSession, table: Table) -> None:
        self._jvm: Any = spark._jvm  # noqa: SLF001 - pyspark has no public way to Iceberg's API
        self._session: Any = spark._jsparkSession  # noqa: SLF001
        self._table = table

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield the current snapshot and its ancestors, newest first; expired ones are skipped."""
        return self._ancestors(self.java_table())

    def log(self) -> Log:
        """Return the snapshots that `snapshots` yields, with what tells whether the table was rolled back."""
        table = self.java_table()
        snapshots = tuple(self._ancestors(table))
        last = int(table.operations().current().lastSequenceNumber())
        lost: list[int] = []
        if snapshots and last > snapshots[0].sequence:
            newer = (one for one in table.snapshots() if one.sequenceNumber() > snapshots[0].sequence)
            lost = [int(one.snapshotId()) for one in newer]
        return Log(snapshots, last, tuple(lost))

    def _ancestors(self, table: Any) -> Iterator[Snapshot]:
        to_json = self._jvm.org.apache.iceberg.SnapshotParser.toJson  # one call a snapshot, not one a property
        snapshot = table.currentSnapshot()
        while snapshot is not None:
            fields = json.loads(to_json(snapshot))
            summary: dict[str, str] = fields["summary"]
            parent: int | None = fields.get("parent-snapshot-id")
            at = fields["timestamp-ms"] / 1000
            operation, sequence = summary.pop("operation", ""), fields.get("sequence-number", 0)
            yield Snapshot(fields["snapshot-id"], parent, at, operation, summary, sequence)
            if parent is None:
                return
            snapshot = table.snapshot(parent)
            if snapshot is None:
                snapshot = _newest_before(table, fields["sequence-number"])

    def refs(self) -> dict[str, int]:
        """Return the snapshot id of each branch and tag."""
        refs = self.java_table().refs()
        return {str(name): int(refs.get(name).snapshotId()) for name in list(refs.keySet())}

    def count(self) -> int:
        """Return the number of snapshots that the table has."""
        return int(self.java_table().operations().current().snapshots().size())

    def properties(self) -> dict[str, str]:
        """Return the properties of the table."""
        stored = self.java_table().properties()
        return {str(key): str(stored[key]) for key in stored}

    def expire(self, ids: Iterable[int]) -> None:
        """Expire snapshots by their ids, and delete the files that no other snapshot needs.

        Raises Java's error for one that is expired already, or that a branch or tag refers to.
        """
        update = self.java_table().expireSnapshots().expireOlderThan(0)  # otherwise Iceberg also expires by age
        for snapshot_id in ids:
            update = update.expireSnapshotId(snapshot_id)
        update.commit()

    @contextmanager
    def held(self, snapshot_id: int, reader: str) -> Iterator[None]:
        """Keep a snapshot from expiring while a reader that may take long needs it, by a tag that names the reader."""
        name = f"{reader}-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S-%f}"
        retry_on_conflict(lambda: self.java_table().manageSnapshots().createTag(name, snapshot_id).commit())
        try:
            yield
        finally:
            retry_on_conflict(lambda: self.java_table().manageSnapshots().removeTag(name).commit())

    def newest_of_query(self, query_id: str) -> Snapshot | None:
        """Return the newest commit of a query; None if it has none."""
        return next((snapshot for snapshot in self.snapshots() if snapshot.query_id == query_id), None)

    def java_table(self) -> Any:
        """Return Iceberg's Java table, refreshed."""
        load = self._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable
        table = load(self._session, self._table.identifier)
        table.refresh()
        return table


def _newest_before(table: Any, sequence_number: int) -> Any:
    """Return the newest snapshot below a sequence number; None if all are expired."""
    older = [snapshot for snapshot in table.snapshots() if snapshot.sequenceNumber() < sequence_number]
    return max(older, key=lambda snapshot: int(snapshot.sequenceNumber()), default=None)
