"""A consistent view of the tables: one pinned snapshot each, and each layer's progress at that time.

Snapshots are pinned downstream first, Gold before Silver before Bronze. Upstream tables therefore always contain the
rows that downstream ones were made from, and any further rows are lag.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.offsets.bitmaps import Partition, TopicPartition
from k2.jobs.commit import anchors
from k2.jobs.commit.anchors import Extents
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.jobs.stream import BRONZE
from k2.schemas import tables
from k2.schemas.channels import Channel
from k2.schemas.snapshots import EXCHANGE, FRONTIER, OFFSETS, PRUNED, PURGED, ROWS_IN
from k2.schemas.tables import Table

_SHARED: Final = (tables.GAPS_TABLE, tables.EVIDENCE_TABLE, tables.COMPLETENESS_TABLE, tables.BATCHES_TABLE)

Frontier = dict[TopicPartition, int]  # the first offset that is not due yet


class PinnedSnapshots:
    """The tables of some exchanges' channels at the snapshots that were current at construction."""

    def __init__(self, spark: SparkSession, recorded: Iterable[tuple[str, Channel]]) -> None:
        origins = list(recorded)
        self._spark = spark
        order = [
            *(channel.gold for channel in dict.fromkeys(channel for _, channel in origins)),
            *(channel.silver(exchange) for exchange, channel in origins),
            tables.DEAD_LETTERS_TABLE,
            *(channel.bronze(exchange) for exchange, channel in origins),
            *_SHARED,
        ]
        self._histories: dict[str, list[Snapshot]] = {}
        for table in order:
            newest_first = SnapshotHistory(spark, table).snapshots()
            # Of tables without offsets only the current snapshot is of interest.
            self._histories[table.name] = list(islice(newest_first, 1 if table in _SHARED else None))

    def rows(self, table: Table) -> DataFrame:
        """Return a table's rows at its pinned snapshot."""
        newest = self.snapshot_id(table)
        if newest is None:
            return self._spark.table(table.identifier).where("false")
        return self._spark.read.option("versionAsOf", str(newest)).table(table.identifier)

    def snapshot_id(self, table: Table) -> int | None:
        """Return a table's pinned snapshot id; None if it has no snapshot yet."""
        history = self._histories[table.name]
        return history[0].id if history else None

    def pruned_before(self, table: Table) -> str | None:
        """Return the time (ISO 8601) before which retention may have deleted rows; None if it never did."""
        before = SnapshotHistory(self._spark, table).java_table().properties().get(PRUNED)
        return None if before is None else str(before)

    def bronze_extents(self, exchange: str, label: str, channel: Channel) -> Extents:
        """Return the first and last offset of each partition that Bronze holds by its commits and the ledger."""
        table = channel.bronze(exchange)
        history, purged = self._histories[table.name], self._purged(table)
        own = (F.col("exchange") == label) & (F.col("channel") == channel.name)
        ledger = anchors.of_ledger(self.rows(tables.BATCHES_TABLE).where(own), BRONZE, history, purged)
        return anchors.merged(anchors.of_snapshots(history, purged), ledger)

    def silver_frontier(
        self, exchange: str, channel: Channel, partitions: Mapping[TopicPartition, Partition]
    ) -> Frontier:
        """Return up to which offsets Bronze rows must be in Silver or the dead letters.

        Silver commits the valid records of a batch first, then its dead letters. A batch of which only one of the two
        is pinned is not due.
        """
        silver = self._histories[channel.silver(exchange).name]
        dead_letters = self._histories[tables.DEAD_LETTERS]
        frontier: Frontier = {}
        for topic_partition, partition in partitions.items():
            if (last := partition.last(("silver", "dead_letters"))) is not None:
                frontier[topic_partition] = last + 1
        purged = self._purged(channel.silver(exchange))
        for snapshot in silver:
            for topic_partition, (_, last) in _ranges(snapshot).items():
                if snapshot.committed_at <= purged.get(topic_partition[0], 0.0):
                    continue
                frontier[topic_partition] = max(frontier.get(topic_partition, 0), last + 1)
        for topic_partition, first in _unsettled(silver, dead_letters).items():
            frontier[topic_partition] = min(frontier.get(topic_partition, first), first)
        return frontier

    def gold_frontier(self, label: str, channel: Channel) -> Frontier:
        """Return up to which offsets Silver rows must be in Gold, from the newest commit of each of its queries."""
        frontier: Frontier = {}
        purged = self._purged(channel.gold)
        for snapshot in _newest(self._histories[channel.gold.name]).values():
            if snapshot.summary.get(EXCHANGE) != label:
                continue
            for topic, partitions in json.loads(snapshot.summary[FRONTIER]).items():
                if snapshot.committed_at <= purged.get(topic, 0.0):
                    continue
                for partition, upto in partitions.items():
                    topic_partition = topic, int(partition)
                    frontier[topic_partition] = max(frontier.get(topic_partition, 0), upto)
        return frontier

    def _purged(self, table: Table) -> dict[str, float]:
        """Return when the rows of purged topics were deleted, in seconds since 1970."""
        properties = SnapshotHistory(self._spark, table).java_table().properties()
        purged = {str(key): str(properties[key]) for key in properties if str(key).startswith(PURGED)}
        return {key.removeprefix(PURGED): float(value) for key, value in purged.items()}


def purged_key(topic: str) -> str:
    """Return the table property that records when a topic's rows were purged (seconds since 1970)."""
    return f"{PURGED}{topic}"


def _newest(newest_first: Iterable[Snapshot]) -> dict[str, Snapshot]:
    """Return the newest commit of each query."""
    newest: dict[str, Snapshot] = {}
    for snapshot in newest_first:
        if snapshot.query_id:
            newest.setdefault(snapshot.query_id, snapshot)
    return newest


def _unsettled(silver: Iterable[Snapshot], dead_letters: Iterable[Snapshot]) -> Frontier:
    """Return the first offsets of batches of which only the valid records or only the dead letters are pinned."""
    record_commits, dead_letter_commits = _newest(silver), list(dead_letters)
    with_dead_letters = {(snapshot.query_id, snapshot.epoch) for snapshot in dead_letter_commits}
    incomplete = [
        snapshot
        for snapshot in record_commits.values()
        if snapshot.rows < int(snapshot.summary[ROWS_IN])
        and (snapshot.query_id, snapshot.epoch) not in with_dead_letters
    ]
    incomplete += [
        snapshot
        for snapshot in dead_letter_commits
        if snapshot.query_id in record_commits and snapshot.epoch > record_commits[snapshot.query_id].epoch
    ]
    first_offsets: Frontier = {}
    for snapshot in incomplete:
        for topic_partition, (first, _) in _ranges(snapshot).items():
            first_offsets[topic_partition] = min(first_offsets.get(topic_partition, first), first)
    return first_offsets


def _ranges(snapshot: Snapshot) -> dict[TopicPartition, tuple[int, int]]:
    return {
        (topic, int(partition)): (first, last)
        for topic, partitions in json.loads(snapshot.summary.get(OFFSETS, "{}")).items()
        for partition, (first, last) in partitions.items()
    }
