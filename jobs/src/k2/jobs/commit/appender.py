"""What snapshots say of themselves: which batch of which query each one is, so that none is written twice.

A commit and its summary are one atomic write. The summary therefore is the ledger: a batch whose epoch stands in a
snapshot of the table is there, whole; one that does not is not, at all.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession

from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.schemas.tables import Table

QUERY: Final = "k2.query-id"
EPOCH: Final = "k2.epoch"
OFFSETS: Final = "k2.offsets"

Offsets = dict[str, dict[str, list[int]]]  # topic, partition: first and last, both included


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One commit: its id and its parent's, when it was made (seconds since 1970), what it did, and its summary."""

    id: int
    parent: int | None
    committed_at: float
    operation: str
    summary: Mapping[str, str]

    @property
    def query_id(self) -> str:
        """The streaming query that made it; empty for maintenance."""
        return self.summary.get(QUERY, "")

    @property
    def epoch(self) -> int:
        """Its micro-batch; -1 for maintenance."""
        return int(self.summary.get(EPOCH, -1))

    @property
    def rows(self) -> int:
        """Rows that it added."""
        return int(self.summary.get("added-records", 0))


class TableLog:
    """A table's snapshots, newest first."""

    def __init__(self, spark: SparkSession, table: Table) -> None:
        self._jvm: Any = spark._jvm  # noqa: SLF001 - pyspark has no public way to Iceberg's API
        self._session: Any = spark._jsparkSession  # noqa: SLF001
        self._table = table

    def snapshots(self) -> Iterator[Snapshot]:
        """The current snapshot and its ancestors; where some of them were expired, it goes on with what is left."""
        table = self.java_table()
        told = self._jvm.org.apache.iceberg.SnapshotParser.toJson  # one call a snapshot, not one a property
        snapshot = table.currentSnapshot()
        while snapshot is not None:
            found = json.loads(told(snapshot))
            summary: dict[str, str] = found["summary"]
            parent: int | None = found.get("parent-snapshot-id")
            at = found["timestamp-ms"] / 1000
            yield Snapshot(found["snapshot-id"], parent, at, summary.pop("operation", ""), summary)
            if parent is None:
                return
            snapshot = table.snapshot(parent)
            if snapshot is None:
                snapshot = _newest_before(table, found["sequence-number"])

    def refs(self) -> dict[str, int]:
        """Branches and tags, with the snapshot that each names."""
        found = self.java_table().refs()
        return {str(name): int(found.get(name).snapshotId()) for name in list(found.keySet())}

    def newest_of(self, query_id: str) -> Snapshot | None:
        """The newest commit of a query."""
        return next((snapshot for snapshot in self.snapshots() if snapshot.query_id == query_id), None)

    def java_table(self) -> Any:
        """Iceberg's own table, as it is now."""
        load = self._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable
        table = load(self._session, self._table.identifier)
        table.refresh()
        return table


def _newest_before(table: Any, sequence_number: int) -> Any:
    """The newest snapshot that is older than a sequence number; None if all were expired."""
    older = [snapshot for snapshot in table.snapshots() if snapshot.sequenceNumber() < sequence_number]
    return max(older, key=lambda snapshot: int(snapshot.sequenceNumber()), default=None)


class Appender:
    """Appends a query's batches to one table, each once."""

    def __init__(self, spark: SparkSession, table: Table, query_id: str) -> None:
        self._table = table
        self._query_id = query_id
        self._log = TableLog(spark, table)
        self._newest = self._log.newest_of(query_id)

    def committed(self, epoch: int, offsets: Offsets) -> Snapshot | None:
        """The snapshot of a batch that an earlier run wrote; None if it must be written.

        Spark plans a batch that was not finished again with the same offsets. Raises `BrokenCheckpoint` if it did not:
        the checkpoint is then older than the table, and to skip the batch would lose what it holds beyond the old one.
        """
        newest = self._newest
        if newest is None or newest.epoch < epoch:
            return None
        if newest.epoch > epoch or json.loads(newest.summary[OFFSETS]) != offsets:
            raise BrokenCheckpoint(
                f"batch {epoch} of query {self._query_id} is not the one that {self._table.name} holds (its newest is "
                f"{newest.epoch}): the checkpoint was restored from an older copy; restore the newer one, or rebuild: "
                f"rename the checkpoint and the layer's table, and start again"
            )
        return newest

    @property
    def before(self) -> Snapshot | None:
        """The newest commit of this query before this process began."""
        return self._newest

    def append(self, rows: DataFrame, epoch: int, properties: Mapping[str, str]) -> None:
        """Commits a batch and its summary, in one."""
        writer = rows.writeTo(self._table.identifier).option("fanout-enabled", "true")
        for key, value in {**properties, QUERY: self._query_id, EPOCH: str(epoch)}.items():
            writer = writer.option(f"snapshot-property.{key}", value)
        writer.append()
