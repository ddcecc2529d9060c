"""Comparison of the message ids of Silver and Gold: each exactly once in Gold, none missing, no orphans.

Hashes are counted first, since numbers are cheap to shuffle; only ids with a suspicious hash are compared as strings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.offsets import TopicPartition
from k2.jobs.spark.local_frames import local_frame

_MAX_MISMATCHES: Final = 1000


@dataclass(frozen=True, slots=True)
class IdMismatch:
    """A message id that is not exactly once in Gold and in the due rows of Silver."""

    message_id: str
    trade_id: str
    symbol: str
    due: bool
    silver: int
    gold: int


@dataclass(frozen=True, slots=True)
class IdComparison:
    """Counts, and the first thousand mismatches by kind."""

    repeats: int  # Silver rows beyond the first of their id
    pending: int  # ids in Silver that Gold has yet to process
    duplicates: tuple[IdMismatch, ...]
    missing: tuple[IdMismatch, ...]
    orphans: tuple[IdMismatch, ...]


def union_ids(
    spark: SparkSession, silver: DataFrame, gold: DataFrame, frontier: Mapping[TopicPartition, int]
) -> DataFrame:
    """Return the ids of Silver and Gold in one DataFrame, with `due` for Silver rows that Gold's query has processed.

    Both inputs have a boolean column `in_scope`; rows outside the scope are compared with, but never a finding.
    """
    upto = local_frame(
        spark,
        ({"topic": topic, "partition": number, "upto": first} for (topic, number), first in frontier.items()),
        "topic string, partition int, upto bigint",
    )
    due = F.coalesce(F.col("offset") < F.col("upto"), F.lit(False)) & F.col("in_scope")
    limited = silver.join(F.broadcast(upto), ["topic", "partition"], "left")
    columns = ("message_id", "trade_id", "symbol", "in_scope")
    silver_ids = limited.select(*columns, due.alias("due"), F.lit(1).alias("silver"), F.lit(0).alias("gold"))
    gold_ids = gold.select(*columns, F.lit(False).alias("due"), F.lit(0).alias("silver"), F.lit(1).alias("gold"))
    return silver_ids.unionByName(gold_ids).select(F.xxhash64("message_id").alias("hash"), "*")


def compare(ids: DataFrame) -> IdComparison:
    """Compare the ids that `union_ids` returned."""
    mismatch = "(gold > 1 AND in_scope) OR (due AND gold = 0) OR (gold > 0 AND silver = 0 AND gold_in_scope)"
    counted = _counted(ids, "hash")
    total = counted.agg(
        F.coalesce(F.sum(F.expr("greatest(silver - 1, 0)")), F.lit(0)).alias("repeats"),
        F.count_if(F.expr("silver > 0 AND in_scope AND gold = 0 AND NOT due")).alias("pending"),
        F.count_if(F.expr(mismatch)).alias("mismatches"),
    ).collect()[0]
    mismatches: list[IdMismatch] = []
    if total["mismatches"]:
        hashes = counted.where(mismatch).select("hash").limit(_MAX_MISMATCHES)
        exact = _counted(ids.join(F.broadcast(hashes), "hash", "left_semi"), "message_id", "trade_id", "symbol")
        rows = exact.where(mismatch).orderBy("symbol", "trade_id").collect()
        mismatches = [
            IdMismatch(row["message_id"], row["trade_id"], row["symbol"], row["due"], row["silver"], row["gold"])
            for row in rows
        ]
    return IdComparison(
        total["repeats"],
        total["pending"],
        tuple(entry for entry in mismatches if entry.gold > 1),
        tuple(entry for entry in mismatches if entry.due and entry.gold == 0),
        tuple(entry for entry in mismatches if entry.gold == 1 and entry.silver == 0),
    )


def _counted(ids: DataFrame, *by: str) -> DataFrame:
    return ids.groupBy(*by).agg(
        F.sum("silver").alias("silver"),
        F.sum("gold").alias("gold"),
        F.max("due").alias("due"),
        F.max("in_scope").alias("in_scope"),
        F.max(F.expr("in_scope AND gold = 1")).alias("gold_in_scope"),
    )
