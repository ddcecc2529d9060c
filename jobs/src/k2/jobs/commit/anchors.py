"""What commits say that a table holds: the offsets by which the audit judges, whatever is left of the rows.

A commit names its offsets in its snapshot's summary; `audit_batches` copies them, and keeps them longer than snapshots.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range
from k2.jobs.commit.snapshots import Snapshot
from k2.schemas.snapshots import OFFSETS
from k2.schemas.values import from_micros

TopicPartition = tuple[str, int]
Extents = dict[TopicPartition, Range]  # the first and last offset


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


@dataclass(frozen=True, slots=True)
class LayerTable:
    """The snapshots of a layer's table, and when its topics were purged, in seconds since 1970."""

    snapshots: Sequence[Snapshot]
    purged: Mapping[str, float]


def of_ledger(batches: DataFrame, layers: Mapping[str, LayerTable]) -> dict[str, Extents]:
    """Return the extents by layer that rows of audit_batches name, pinned before the layers' snapshots.

    A table that was made again has other queries, and what the older ones committed is not in it. If the table has no
    commit at all any more, all queries count.
    """
    ranges = [_of_layer(batches, layer, table) for layer, table in layers.items()]
    grouped = (
        reduce(DataFrame.unionByName, ranges)
        .groupBy("layer", "range.topic", "range.partition")
        .agg(F.min("range.first").alias("first"), F.max("range.last").alias("last"))
    )
    extents: dict[str, Extents] = {layer: {} for layer in layers}
    for row in grouped.collect():
        extents[row["layer"]][row["topic"], row["partition"]] = row["first"], row["last"]
    return extents


def _of_layer(batches: DataFrame, layer: str, table: LayerTable) -> DataFrame:
    queries = {snapshot.query_id for snapshot in table.snapshots if snapshot.query_id}
    rows = batches.where(F.col("layer") == layer)
    if queries:
        rows = rows.where(F.col("query_id").isin(*sorted(queries)))
    ranges = rows.select("layer", "committed_at", F.explode("offset_ranges").alias("range"))
    for topic, at in sorted(table.purged.items()):
        ranges = ranges.where(
            (F.col("range.topic") != topic) | (F.col("committed_at") > F.lit(from_micros(round(at * 1e6))))
        )
    return ranges


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
