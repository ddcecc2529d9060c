"""Lineage of a micro-batch: its Kafka offsets and row count, from checkpoints and snapshot summaries.

Bronze takes its Kafka offsets from its own checkpoint and commits them with its rows. Silver and Gold take theirs from
the summaries of the snapshots that their batch covers, and commit them in turn. No row is read for it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.checkpoints import Checkpoint
from k2.jobs.commit.snapshots import Offsets, Snapshot, SnapshotHistory
from k2.jobs.commit.topic_identity import TopicIdentity
from k2.schemas import topics
from k2.schemas.snapshots import OFFSETS, REDRIVEN, TOPIC_IDS
from k2.schemas.tables import Table

NO_SNAPSHOT: Final = -1  # how Iceberg's stream denotes the position before a table's first snapshot


@dataclass(frozen=True, slots=True)
class BatchContents:
    """The Kafka offsets and the number of rows of a batch, and the ids of the topics that the offsets belong to.

    `redriven` are those of the rows, by topic, that were dead letters before: their offsets are not among the ranges.
    """

    offsets: Offsets
    rows: int
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    redriven: Mapping[str, int] = field(default_factory=dict)


class KafkaTopic:
    """The topic that a query reads, batch by batch."""

    def __init__(self, checkpoint: Checkpoint, identity: TopicIdentity) -> None:
        self._checkpoint = checkpoint
        self._identity = identity

    def rows(self, frame: DataFrame, epoch: int) -> DataFrame:
        """Return the records of a batch, which Spark has read already, under the names of their topics in tables."""
        names = self._identity.names
        if not names:
            return frame
        renamed = F.create_map(*(F.lit(text) for pair in names.items() for text in pair))
        return frame.withColumn("topic", F.coalesce(renamed[F.col("topic")], F.col("topic")))

    def contents(self, frame: DataFrame, epoch: int) -> BatchContents:
        """Return the contents of a batch: from the end of the previous batch to its own end.

        Raises `TopicReplaced` if a topic was made again since the query started.
        """
        topic_ids = self._identity.verify()
        start = self._checkpoint.end(epoch - 1) if epoch else self._checkpoint.initial()
        read = offset_ranges(start, self._checkpoint.end(epoch))
        offsets = {self._identity.name(topic): partitions for topic, partitions in read.items()}
        rows = sum(last - first + 1 for partitions in offsets.values() for first, last in partitions.values())
        ids = {self._identity.name(topic): topic_ids[topic] for topic in read if topic in topic_ids}
        return BatchContents(offsets, rows, ids)


def offset_ranges(start: Any, end: Any) -> Offsets:
    """Return the offset ranges between two positions in the format of Spark's checkpoint."""
    ranges: Offsets = {}
    for topic, partitions in end.items():
        for partition, after in partitions.items():
            first = start.get(topic, {}).get(partition, 0)
            if after > first:
                ranges.setdefault(topic, {})[partition] = [first, after - 1]
    return ranges


class UpstreamTable:
    """The table that a query reads, batch by batch.

    A streaming DataFrame reads every column of every file row by row; the same batch read as the difference of its
    two snapshots is a vectorised read of the selected columns only.
    """

    def __init__(self, spark: SparkSession, table: Table, topic: str, checkpoint: Checkpoint) -> None:
        self._table = table
        self._topic = topic
        self._checkpoint = checkpoint
        self._history = SnapshotHistory(spark, table)

    def rows(self, frame: DataFrame, epoch: int) -> DataFrame:
        """Return the rows of a batch that belong to this topic."""
        spark = frame.sparkSession
        start, end = self._snapshots(epoch)
        if start == NO_SNAPSHOT:
            rows = spark.read.option("versionAsOf", str(end)).table(self._table.identifier)
        else:
            reader = spark.read.format("iceberg").option("start-snapshot-id", str(start))
            rows = reader.option("end-snapshot-id", str(end)).load(self._table.identifier)
        return rows.where((F.col("topic") == self._topic) | F.col("topic").startswith(topics.remade(self._topic, "")))

    def contents(self, frame: DataFrame, epoch: int) -> BatchContents:
        """Return the contents of a batch from snapshot summaries, or from its rows if a snapshot is expired."""
        start, end = self._snapshots(epoch)
        merged: Offsets = {}
        rows = 0
        topic_ids: dict[str, str] = {}
        redriven: dict[str, int] = {}
        for snapshot in _covered(self._history.snapshots(), start, end):
            if snapshot is None or (snapshot.operation == "append" and OFFSETS not in snapshot.summary):
                return from_rows(self.rows(frame, epoch), self._newest_ids())
            if snapshot.operation in {"delete", "overwrite"} and start == NO_SNAPSHOT:
                return from_rows(self.rows(frame, epoch), self._newest_ids())  # rows of older snapshots may be deleted
            if snapshot.operation != "append":
                continue
            if REDRIVEN in snapshot.summary:
                _count(redriven, self._own(json.loads(snapshot.summary[REDRIVEN])))
                continue
            own = {
                topic: partitions
                for topic, partitions in json.loads(snapshot.summary[OFFSETS]).items()
                if topics.in_kafka(topic) == self._topic and partitions
            }
            if own:
                rows += snapshot.rows
                merge_ranges(merged, own)
                topic_ids = self._ids(snapshot) | topic_ids
        return BatchContents(merged, rows + sum(redriven.values()), topic_ids, redriven)

    def _own(self, by_topic: Mapping[str, int]) -> dict[str, int]:
        return {topic: count for topic, count in by_topic.items() if topics.in_kafka(topic) == self._topic}

    def _ids(self, snapshot: Snapshot) -> dict[str, str]:
        ids = json.loads(snapshot.summary.get(TOPIC_IDS, "{}"))
        return {topic: topic_id for topic, topic_id in ids.items() if topics.in_kafka(topic) == self._topic}

    def _newest_ids(self) -> dict[str, str]:
        return next(filter(None, map(self._ids, self._history.snapshots())), {})

    def _snapshots(self, epoch: int) -> tuple[int, int]:
        """Return the snapshots that the batch starts after and ends with; `NO_SNAPSHOT` before the first."""
        end = self._checkpoint.end(epoch)["snapshot_id"]
        return (self._checkpoint.end(epoch - 1)["snapshot_id"] if epoch else NO_SNAPSHOT), end


def from_rows(batch: DataFrame, topic_ids: Mapping[str, str]) -> BatchContents:
    """Return the contents of a batch by aggregating its rows, for batches whose snapshots are expired."""
    partitions = batch.groupBy("topic", "partition").agg(
        F.min("offset").alias("first"), F.max("offset").alias("last"), F.count("*").alias("rows")
    )
    offsets: Offsets = {}
    rows = 0
    for row in partitions.collect():
        offsets.setdefault(row["topic"], {})[str(row["partition"])] = [row["first"], row["last"]]
        rows += row["rows"]
    return BatchContents(offsets, rows, topic_ids if offsets else {})


def _count(into: dict[str, int], more: Mapping[str, int]) -> None:
    for topic, count in more.items():
        into[topic] = into.get(topic, 0) + count


def merge_ranges(into: Offsets, more: Offsets) -> None:
    """Extend ranges, in place, by others that follow them."""
    for topic, partitions in more.items():
        ranges = into.setdefault(topic, {})
        for partition, (first, last) in partitions.items():
            low, high = ranges.get(partition, (first, last))
            ranges[partition] = [min(low, first), max(high, last)]


def _covered(newest_first: Iterable[Snapshot], start: int, end: int) -> Iterator[Snapshot | None]:
    """Yield the snapshots after `start` up to `end`; None, at last, if one of them is expired."""
    expected = end
    for snapshot in newest_first:
        if expected == start:
            return
        if snapshot.id == expected:
            yield snapshot
            expected = NO_SNAPSHOT if snapshot.parent is None else snapshot.parent
    if expected != start:
        yield None
