"""Idempotent appends: each micro-batch of a query is committed to a table once."""

import json
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.schemas.snapshots import EPOCH, OFFSETS, QUERY
from k2.schemas.tables import Table


class Appender:
    """Appends the batches of one query to one table, each once."""

    def __init__(self, spark: SparkSession, table: Table, query_id: str) -> None:
        self._table = table
        self._query_id = query_id
        self._history = SnapshotHistory(spark, table)
        self._looked_at = -1  # the number of the newest commit of the table that was read
        self._newest: Snapshot | None = None
        self._look()
        self._before = self._newest

    def find_committed(self, batch: IncrementalBatch) -> Snapshot | None:
        """Return the snapshot of a batch that another process committed; None if it must be written.

        Spark plans an unfinished batch again with the same offsets. Raises `BrokenCheckpoint` if the offsets differ:
        the checkpoint is then older than the table, and skipping the batch would lose the rows beyond the old one.

        The table is read for each batch: a process that slept in one may have been replaced meanwhile.
        """
        self._look()
        newest = self._newest
        if newest is None or newest.epoch < batch.epoch:
            return None
        if newest.epoch > batch.epoch or json.loads(newest.summary[OFFSETS]) != batch.contents.offsets:
            raise BrokenCheckpoint(
                f"batch {batch.epoch} of query {self._query_id} differs from the one in {self._table.name} (newest "
                f"batch there: {newest.epoch}): the checkpoint was restored from an older copy; restore the newer "
                f"one, or rebuild: rename the checkpoint and the layer's table, and start again. If another process "
                f"runs this query, it goes on, and this one may end"
            )
        return newest

    @property
    def last_commit(self) -> Snapshot | None:
        """The newest commit that this query made before this process started."""
        return self._before

    def _look(self) -> None:
        """Read the commits that are new in the table."""
        before = self._looked_at
        for snapshot in self._history.snapshots():
            if snapshot.sequence <= before:
                return
            self._looked_at = max(self._looked_at, snapshot.sequence)
            if snapshot.query_id == self._query_id:
                self._newest = snapshot
                return

    def append(self, rows: DataFrame, epoch: int, properties: Mapping[str, str]) -> None:
        """Commit a batch and its summary in one atomic write."""
        writer = with_all_columns(rows, self._table).writeTo(self._table.identifier).option("fanout-enabled", "true")
        for key, value in {**properties, QUERY: self._query_id, EPOCH: str(epoch)}.items():
            writer = writer.option(f"snapshot-property.{key}", value)
        writer.append()


def with_all_columns(rows: DataFrame, table: Table) -> DataFrame:
    """Return `rows` with null in the nullable columns of the table that they lack."""
    lacking = [column for column in table.columns if column.nullable and column.name not in rows.columns]
    nulls = (F.lit(None).cast(column.type).alias(column.name) for column in lacking)
    return rows.select("*", *nulls) if lacking else rows
