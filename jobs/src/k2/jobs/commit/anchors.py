"""What commits say that a table holds: the offsets by which the audit judges, whatever is left of the rows.

A commit names its offsets in its snapshot's summary; `audit_batches` copies them, and keeps them longer than snapshots.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range
from k2.jobs.commit.snapshots import Snapshot
from k2.schemas.snapshots import OFFSETS
from k2.schemas.values import from_micros

TopicPartition = tuple[str, int]
Extents = dict[TopicPartition, Range]  # the first and last offset

_MILLISECOND: Final = 1_000


def of_snapshots(snapshots: Iterable[Snapshot], purged: Mapping[str, float]) -> Extents:
    """Return the extents that commits name. Those of a topic before it was purged (seconds since 1970) say nothing."""
    extents: Extents = {}
    for snapshot in snapshots:
        for topic, partitions in json.loads(snapshot.summary.get(OFFSETS, "{}")).items():
            if snapshot.committed_at <= purged.get(topic, 0.0):
                continue
            for partition, (first, last) in partitions.items():
                _extend(extents, (topic, int(partition)), first, last)
    return extents


def of_ledger(batches: DataFrame, layer: str, snapshots: Iterable[Snapshot], purged: Mapping[str, float]) -> Extents:
    """Return the extents that rows of audit_batches name, for commits up to the newest of a table's `snapshots`.

    A table that was made again has other queries, and what the older ones committed is not in it. If the table has no
    commit at all any more, all queries count.
    """
    history = list(snapshots)
    queries = {snapshot.query_id for snapshot in history if snapshot.query_id}
    rows = batches.where(F.col("layer") == layer)
    if queries:
        rows = rows.where(F.col("query_id").isin(*sorted(queries)))
    if history:
        newest = from_micros(round(history[0].committed_at * 1e6) + _MILLISECOND)
        rows = rows.where(F.col("committed_at") <= F.lit(newest))
    ranges = rows.select("committed_at", F.explode("offset_ranges").alias("range"))
    for topic, at in sorted(purged.items()):
        ranges = ranges.where(
            (F.col("range.topic") != topic) | (F.col("committed_at") > F.lit(from_micros(round(at * 1e6))))
        )
    grouped = ranges.groupBy("range.topic", "range.partition").agg(
        F.min("range.first").alias("first"), F.max("range.last").alias("last")
    )
    return {(row["topic"], row["partition"]): (row["first"], row["last"]) for row in grouped.collect()}


def merged(*several: Extents) -> Extents:
    """Return the extents that cover several."""
    extents: Extents = {}
    for one in several:
        for topic_partition, (first, last) in one.items():
            _extend(extents, topic_partition, first, last)
    return extents


def _extend(extents: Extents, topic_partition: TopicPartition, first: int, last: int) -> None:
    low, high = extents.get(topic_partition, (first, last))
    extents[topic_partition] = min(low, first), max(high, last)
