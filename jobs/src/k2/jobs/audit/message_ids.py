"""Message ids of Silver and Gold against each other: each in Gold once, none lost, none invented.

Hashes are counted first, for numbers are cheap to shuffle; only ids whose hash looks wrong are compared as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.offsets import Place
from k2.jobs.spark.local_frames import frame

_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Suspect:
    """A message id that is not once in Silver's due rows and once in Gold."""

    message_id: str
    trade_id: str
    symbol: str
    due: bool
    silver: int
    gold: int


@dataclass(frozen=True, slots=True)
class Identities:
    """What was counted, and the ids of which something is wrong (the first thousand)."""

    repeats: int  # Silver rows beyond the first of their id
    waiting: int
    twice: tuple[Suspect, ...]
    missing: tuple[Suspect, ...]
    unknown: tuple[Suspect, ...]


def layered(spark: SparkSession, silver: DataFrame, gold: DataFrame, frontier: Mapping[Place, int]) -> DataFrame:
    """Silver's and Gold's ids: `due` for Silver rows that Gold's query has read, `judged` for what may be a finding.

    Both frames bring a column `judged`; rows without it only stand witness for the others.
    """
    upto = frame(
        spark,
        ({"topic": topic, "partition": number, "upto": first} for (topic, number), first in frontier.items()),
        "topic string, partition int, upto bigint",
    )
    due = F.coalesce(F.col("offset") < F.col("upto"), F.lit(False)) & F.col("judged")
    known = silver.join(F.broadcast(upto), ["topic", "partition"], "left")
    columns = ("message_id", "trade_id", "symbol", "judged")
    arrived = known.select(*columns, due.alias("due"), F.lit(1).alias("silver"), F.lit(0).alias("gold"))
    held = gold.select(*columns, F.lit(False).alias("due"), F.lit(0).alias("silver"), F.lit(1).alias("gold"))
    return arrived.unionByName(held).select(F.xxhash64("message_id").alias("hash"), "*")


def compared(ids: DataFrame) -> Identities:
    """The verdict on `layered` rows."""
    wrong = "(gold > 1 AND judged) OR (due AND gold = 0) OR (gold > 0 AND silver = 0 AND judged_gold)"
    counted = _counted(ids, "hash")
    total = counted.agg(
        F.coalesce(F.sum(F.expr("greatest(silver - 1, 0)")), F.lit(0)).alias("repeats"),
        F.count_if(F.expr("silver > 0 AND judged AND gold = 0 AND NOT due")).alias("waiting"),
        F.count_if(F.expr(wrong)).alias("wrong"),
    ).collect()[0]
    suspects: list[Suspect] = []
    if total["wrong"]:
        few = counted.where(wrong).select("hash").limit(_MOST)
        exact = _counted(ids.join(F.broadcast(few), "hash", "left_semi"), "message_id", "trade_id", "symbol")
        rows = exact.where(wrong).orderBy("symbol", "trade_id").collect()
        suspects = [
            Suspect(row["message_id"], row["trade_id"], row["symbol"], row["due"], row["silver"], row["gold"])
            for row in rows
        ]
    return Identities(
        total["repeats"],
        total["waiting"],
        tuple(found for found in suspects if found.gold > 1),
        tuple(found for found in suspects if found.due and found.gold == 0),
        tuple(found for found in suspects if found.gold == 1 and found.silver == 0),
    )


def _counted(ids: DataFrame, *by: str) -> DataFrame:
    return ids.groupBy(*by).agg(
        F.sum("silver").alias("silver"),
        F.sum("gold").alias("gold"),
        F.max("due").alias("due"),
        F.max("judged").alias("judged"),
        F.max(F.expr("judged AND gold = 1")).alias("judged_gold"),
    )
