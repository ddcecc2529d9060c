"""What a micro-batch is made of, read from checkpoints and snapshot summaries: no row is touched to find it out.

Bronze learns its Kafka offsets from its own checkpoint and commits them with its rows. Silver and Gold learn theirs
from the summaries of the snapshots that their batch covers, and commit them on.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.appender import OFFSETS, Offsets, Snapshot, TableLog
from k2.jobs.commit.checkpoints import Checkpoint
from k2.schemas.tables import Table

NOTHING: Final = -1  # how Iceberg's stream names the place before a table's first snapshot


@dataclass(frozen=True, slots=True)
class Contents:
    """Which Kafka offsets a batch holds, and how many rows."""

    offsets: Offsets
    rows: int


def of_kafka(checkpoint: Checkpoint, epoch: int) -> Contents:
    """What a batch read from Kafka: from where the one before ended to where it ends itself."""
    start = checkpoint.end(epoch - 1) if epoch else checkpoint.initial()
    offsets = between(start, checkpoint.end(epoch))
    rows = sum(last - first + 1 for partitions in offsets.values() for first, last in partitions.values())
    return Contents(offsets, rows)


def between(start: Any, end: Any) -> Offsets:
    """Kafka offsets from one place to another, as Spark's checkpoint tells them."""
    found: Offsets = {}
    for topic, partitions in end.items():
        for partition, after in partitions.items():
            first = start.get(topic, {}).get(partition, 0)
            if after > first:
                found.setdefault(topic, {})[partition] = [first, after - 1]
    return found


class Upstream:
    """The layer that a query reads, seen batch by batch.

    A streaming DataFrame reads every column of every file row by row; the same batch read between its two snapshots
    reads the columns that are asked for, in vectors.
    """

    def __init__(self, spark: SparkSession, table: Table, topic: str, checkpoint: Checkpoint) -> None:
        self._table = table
        self._topic = topic
        self._checkpoint = checkpoint
        self._log = TableLog(spark, table)

    def rows(self, spark: SparkSession, epoch: int) -> DataFrame:
        """The rows of a batch, of this topic."""
        start, end = self._snapshots(epoch)
        if start == NOTHING:
            found = spark.read.option("versionAsOf", str(end)).table(self._table.identifier)
        else:
            reader = spark.read.format("iceberg").option("start-snapshot-id", str(start))
            found = reader.option("end-snapshot-id", str(end)).load(self._table.identifier)
        return found.where(F.col("topic") == self._topic)

    def contents(self, spark: SparkSession, epoch: int) -> Contents:
        """What a batch holds: as its snapshots tell, or by looking at the rows if one of them is gone."""
        start, end = self._snapshots(epoch)
        merged: Offsets = {}
        rows = 0
        if end == NOTHING:
            return Contents(merged, rows)
        for snapshot in _covered(self._log.snapshots(), start, end):
            if snapshot is None or (snapshot.operation == "append" and OFFSETS not in snapshot.summary):
                return of_rows(self.rows(spark, epoch))
            if snapshot.operation in {"delete", "overwrite"} and start == NOTHING:
                return of_rows(self.rows(spark, epoch))  # what older snapshots brought may be gone
            if snapshot.operation != "append":
                continue
            if partitions := json.loads(snapshot.summary[OFFSETS]).get(self._topic):
                rows += snapshot.rows
                merge(merged, {self._topic: partitions})
        return Contents(merged, rows)

    def _snapshots(self, epoch: int) -> tuple[int, int]:
        """The snapshot that the batch begins after, and the one that it ends with; `NOTHING` before the first."""
        end = self._checkpoint.end(epoch)["snapshot_id"]
        return (self._checkpoint.end(epoch - 1)["snapshot_id"] if epoch else NOTHING), end


def of_rows(batch: DataFrame) -> Contents:
    """The same by looking at the rows: for batches whose snapshots are gone."""
    found = batch.groupBy("topic", "partition").agg(
        F.min("offset").alias("first"), F.max("offset").alias("last"), F.count("*").alias("rows")
    )
    offsets: Offsets = {}
    rows = 0
    for row in found.collect():
        offsets.setdefault(row["topic"], {})[str(row["partition"])] = [row["first"], row["last"]]
        rows += row["rows"]
    return Contents(offsets, rows)


def merge(into: Offsets, more: Offsets) -> None:
    """Widens ranges by others that follow them."""
    for topic, partitions in more.items():
        known = into.setdefault(topic, {})
        for partition, (first, last) in partitions.items():
            low, high = known.get(partition, (first, last))
            known[partition] = [min(low, first), max(high, last)]


def _covered(newest_first: Iterable[Snapshot], start: int, end: int) -> Iterator[Snapshot | None]:
    """Snapshots after `start` up to `end`; None if one of them is no longer there."""
    inside, oldest = False, None
    for snapshot in newest_first:
        if oldest is not None and oldest.parent != snapshot.id:
            break
        if snapshot.id == start:
            return
        inside = inside or snapshot.id == end
        if inside:
            yield snapshot
            oldest = snapshot
    if oldest is None or start != NOTHING or oldest.parent is not None:
        yield None
