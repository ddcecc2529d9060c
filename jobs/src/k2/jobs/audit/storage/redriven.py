"""Records of Silver that were dead letters before, as far as redrives and rebuilds tell that they moved them.

A dead letter that is gone is no loss if its record is in Silver; but not if somebody put another record there. So a
redrive must name its offset, in its commit or in the ledger, or the table must have been rebuilt.
"""

import json
from collections.abc import Sequence
from functools import reduce
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.snapshots import OFFSETS, REDRIVE_QUERY
from k2.schemas.tables import BATCHES_TABLE, Table

POSITION: Final = ("topic", "partition", "offset")

_RANGES: Final = "topic string, partition int, first bigint, last bigint"


def positions(spark: SparkSession, pinned: PinnedSnapshots, silver: Sequence[Table]) -> DataFrame | None:
    """Return the Kafka positions of such records in some tables of Silver; None without a table."""
    ranges = F.broadcast(_ranges(spark, pinned, silver))
    moved = [
        rows if pinned.is_rebuilt(table) else rows.join(ranges, _within(rows, ranges), "left_semi")
        for table in silver
        for rows in [pinned.rows(table).select(*POSITION)]
    ]
    return reduce(DataFrame.unionByName, moved) if moved else None


def _within(rows: DataFrame, ranges: DataFrame) -> Any:
    same = (rows["topic"] == ranges["topic"]) & (rows["partition"] == ranges["partition"])
    return same & rows["offset"].between(ranges["first"], ranges["last"])


def _ranges(spark: SparkSession, pinned: PinnedSnapshots, silver: Sequence[Table]) -> DataFrame:
    """Return the ranges of offsets that redrives name: in commits, which may not be copied yet, and in the ledger."""
    committed = [
        {"topic": topic, "partition": int(partition), "first": first, "last": last}
        for table in silver
        for snapshot in pinned.log(table).snapshots
        if snapshot.query_id.startswith(REDRIVE_QUERY)
        for topic, partitions in json.loads(snapshot.summary.get(OFFSETS, "{}")).items()
        for partition, (first, last) in partitions.items()
    ]
    ledger = pinned.rows(BATCHES_TABLE).where(F.col("query_id").startswith(REDRIVE_QUERY))
    named = ledger.select(F.explode("offset_ranges").alias("range")).select("range.*")
    columns = ("topic", "partition", "first", "last")
    return local_frame(spark, committed, _RANGES).select(*columns).unionByName(named.select(*columns))
