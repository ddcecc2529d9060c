"""Comparison of the identities of Silver and Gold: each exactly once in Gold, none missing, no orphans.

Hashes are counted first, since numbers are cheap to shuffle; only identities with a suspicious hash are compared as
values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit import digests
from k2.jobs.audit.offsets.bitmaps import TopicPartition
from k2.jobs.layers.gold import record_time
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.channels import Channel
from k2.schemas.digests import RECORD

_MAX_MISMATCHES: Final = 1000
# Gold was made from a copy that was in Silver before. One that came later may have other values: a duplicate.
_CHANGED: Final = "gold = 1 AND gold_in_scope AND validated <= stored AND in_gold NOT IN (lowest, highest)"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An identity that is not exactly once in Gold and in the due rows of Silver.

    `record` describes it to people, `at` is the earliest of its times in UTC microseconds.
    """

    symbol: str
    at: int
    record: str
    due: bool
    silver: int
    gold: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Counts, and the first thousand mismatches by kind."""

    repeats: int  # Silver rows beyond the first of their identity
    pending: int  # identities in Silver that Gold has yet to process
    duplicates: tuple[Mismatch, ...]
    missing: tuple[Mismatch, ...]
    orphans: tuple[Mismatch, ...]
    differing: DataFrame | None = None  # the hashes of identities whose rows have not all the same content and time
    changed: DataFrame | None = None  # likewise, of which Gold has values that two copies in Silver have not


def identities(
    spark: SparkSession, channel: Channel, silver: DataFrame, gold: DataFrame, frontier: Mapping[TopicPartition, int]
) -> DataFrame:
    """Return the identities of Silver and Gold in one DataFrame, with `due` for Silver rows that Gold's query has read.

    Both inputs have a boolean column `in_scope`; rows outside the scope are compared with, but never a finding.
    """
    upto = local_frame(
        spark,
        ({"topic": topic, "partition": number, "upto": first} for (topic, number), first in frontier.items()),
        "topic string, partition int, upto bigint",
    )
    due = F.coalesce(F.col("offset") < F.col("upto"), F.lit(False)) & F.col("in_scope")
    limited = silver.join(F.broadcast(upto), ["topic", "partition"], "left")
    parsed = digests.with_maps(gold, channel)
    columns = [
        *map(F.col, descriptive_columns(channel)), F.col("in_scope"), _content_hash(channel).alias("content"),
        F.unix_micros(record_time(channel)).alias("at"),
    ]  # fmt: skip
    of_silver = limited.select(
        *columns, *_record(limited, channel, "validation_timestamp"), due.alias("due"),
        F.lit(1).alias("silver"), F.lit(0).alias("gold"),
    )  # fmt: skip
    of_gold = parsed.select(
        *columns, *_record(parsed, channel, "gold_ingestion_timestamp"), F.lit(False).alias("due"),
        F.lit(0).alias("silver"), F.lit(1).alias("gold"),
    )  # fmt: skip
    return of_silver.unionByName(of_gold).select(F.xxhash64(*channel.identity).alias("hash"), "*")


def compare(channel: Channel, rows: DataFrame) -> Comparison:
    """Compare the rows that `identities` returned."""
    mismatch = "(gold > 1 AND in_scope) OR (due AND gold = 0) OR (gold > 0 AND silver = 0 AND gold_in_scope)"
    counted = _counted(rows, "hash")
    total = counted.agg(
        F.coalesce(F.sum(F.expr("greatest(silver - 1, 0)")), F.lit(0)).alias("repeats"),
        F.count_if(F.expr("silver > 0 AND in_scope AND gold = 0 AND NOT due")).alias("pending"),
        F.count_if(F.expr(mismatch)).alias("mismatches"),
        F.count_if("differing").alias("differing"),
        F.count_if(F.expr(_CHANGED)).alias("changed"),
    ).collect()[0]
    mismatches: list[Mismatch] = []
    if total["mismatches"]:
        hashes = counted.where(mismatch).select("hash").limit(_MAX_MISMATCHES)
        columns = descriptive_columns(channel)
        exact = _counted(rows.join(F.broadcast(hashes), "hash", "left_semi"), *columns)
        mismatches = [
            Mismatch(row["symbol"], row["at"], describe(channel, row.asDict()), row["due"], row["silver"], row["gold"])
            for row in exact.where(mismatch).orderBy(*columns).collect()
        ]
    return Comparison(
        total["repeats"],
        total["pending"],
        tuple(entry for entry in mismatches if entry.gold > 1),
        tuple(entry for entry in mismatches if entry.due and entry.gold == 0),
        tuple(entry for entry in mismatches if entry.gold == 1 and entry.silver == 0),
        counted.where("differing").select("hash") if total["differing"] else None,
        counted.where(_CHANGED).select("hash") if total["changed"] else None,
    )


def describe(channel: Channel, row: Mapping[str, Any]) -> str:
    """Return how people recognise a record: by its symbol, the exchange's id if it has one, and its identity."""
    identity = ", ".join(f"{name} {row[name]}" for name in channel.identity if name != "symbol")
    own_id = f" {row[channel.id_column]}" if channel.id_column else ""
    return f"{row['symbol']} record{own_id} ({identity})"


def descriptive_columns(channel: Channel) -> tuple[str, ...]:
    """Return the columns that describe a record: its symbol, the exchange's id if it has one, and its identity."""
    named = ("symbol", channel.id_column, *channel.identity)
    return tuple(dict.fromkeys(name for name in named if name))


def _record(rows: DataFrame, channel: Channel, stored_at: str) -> tuple[Column, Column]:
    """Return a hash of all values as a number, 60 bits of a SHA-256, and when the row was stored."""
    digits = F.substring(digests.row_hash(rows, RECORD, channel.column_names), 1, 15)
    return F.conv(digits, 16, 10).cast("bigint").alias("record"), F.unix_micros(stored_at).alias("stored_at")


def _content_hash(channel: Channel) -> Column:
    if not channel.content:
        return F.lit(0).cast("bigint")
    return F.xxhash64(*channel.content, F.unix_micros(record_time(channel)))


def _counted(rows: DataFrame, *by: str) -> DataFrame:
    return rows.groupBy(*by).agg(
        F.sum("silver").alias("silver"),
        F.sum("gold").alias("gold"),
        F.max("due").alias("due"),
        F.max("in_scope").alias("in_scope"),
        F.min("at").alias("at"),
        F.max(F.expr("in_scope AND gold = 1")).alias("gold_in_scope"),
        (F.min("content") != F.max("content")).alias("differing"),
        F.min(F.expr("IF(silver = 1, record, NULL)")).alias("lowest"),
        F.max(F.expr("IF(silver = 1, record, NULL)")).alias("highest"),
        F.max(F.expr("IF(gold = 1, record, NULL)")).alias("in_gold"),
        F.min(F.expr("IF(silver = 1, stored_at, NULL)")).alias("validated"),
        F.max(F.expr("IF(gold = 1, stored_at, NULL)")).alias("stored"),
    )
