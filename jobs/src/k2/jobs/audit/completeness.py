"""Whether every trade of every hour is there: from the exchanges' own numbering, where it is consecutive.

A range of ids that is missing belongs to the hour of the trade after it. Spark condenses Gold to a row an hour; the
verdict is made here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.offsets import Range
from k2.jobs.commit.retry import until_won
from k2.jobs.spark.local_frames import frame
from k2.schemas.exchanges.spec import EXCHANGES, Ids
from k2.schemas.records.trade import Source
from k2.schemas.tables import COMPLETENESS_TABLE

OPEN: Final = "open"
COMPLETE: Final = "complete"
INCOMPLETE: Final = "incomplete"
UNVERIFIABLE: Final = "unverifiable"

# How long after an hour its trades may still be on their way.
MARGIN: Final = timedelta(minutes=5)
_HOUR: Final = timedelta(hours=1)
_AGGREGATED: Final = "okx"  # one trade may stand for several ids: its own and the `count - 1` before it
# A later id that is older by more than this belongs to another numbering: what lies between was never used.
_RENUMBERED: Final = 60_000_000
_SOURCES: Final = tuple(source.value for source in Source)


@dataclass(frozen=True, slots=True)
class Gap:
    """A row of audit_gaps: first and last missing id, where they are numbers, and its state."""

    symbol: str
    first: int
    last: int
    state: str
    method: str


@dataclass(frozen=True, slots=True)
class Hour:
    """The verdict on one symbol's hour."""

    exchange: str
    symbol: str
    hour: datetime
    first_id: str | None
    last_id: str | None
    expected: int | None
    present: int
    missing: tuple[Range, ...]
    by_source: Mapping[str, int]
    state: str


def hours(gold: DataFrame, exchange: str) -> DataFrame:
    """Gold rows of one exchange as a row per symbol and hour, with the ranges of ids that are missing."""
    read = gold.select(
        "symbol",
        F.date_trunc("hour", "timestamp").alias("hour"),
        F.expr("unix_micros(timestamp)").alias("at"),
        F.coalesce(F.get_json_object("vendor_data", "$.source"), F.lit("unknown")).alias("source"),
        _last(exchange).alias("last"),
        _count(exchange).alias("ids"),
    ).withColumn("first", F.greatest(F.lit(1), F.col("last") - F.col("ids") + 1))
    # Rows without a number form windows of their own, in which nothing is missing.
    order = Window.partitionBy("symbol", F.col("last").isNull()).orderBy("first", "last")
    before = order.rowsBetween(Window.unboundedPreceding, -1)
    seen = read.select(
        "*",
        F.max("last").over(before).alias("before"),
        (F.lag("at").over(order) > F.col("at") + _RENUMBERED).alias("renumbered"),
    )
    starts = F.greatest(F.col("first"), F.coalesce(F.col("before") + 1, F.col("first")))
    lacks = (F.col("first") > F.col("before") + 1) & ~F.coalesce("renumbered", F.lit(False))
    gap = F.struct((F.col("before") + 1).alias("first"), (F.col("first") - 1).alias("last"))
    return seen.groupBy("symbol", "hour").agg(
        F.min("first").alias("first"),
        F.max("last").alias("last"),
        F.sum(F.greatest(F.lit(0), F.col("last") - starts + 1)).alias("present"),
        F.array_sort(F.collect_list(F.when(lacks, gap))).alias("missing"),
        F.count("*").alias("rows"),
        F.count_if(F.col("last").isNull()).alias("unnumbered"),
        *(F.count_if(F.col("source") == name).alias(f"source_{name}") for name in _SOURCES),
    )


def _last(exchange: str) -> Column:
    """The trade's id as a number; null where ids prove nothing."""
    if EXCHANGES[exchange].ids is not Ids.CONSECUTIVE:
        return F.lit(None).cast("bigint")
    return F.expr("try_cast(trade_id AS bigint)")


def _count(exchange: str) -> Column:
    if exchange != _AGGREGATED:
        return F.lit(1)
    return F.greatest(
        F.lit(1), F.coalesce(F.expr("try_cast(get_json_object(vendor_data, '$.count') AS int)"), F.lit(1))
    )


def verdict(row: Mapping[str, Any], exchange: str, now: datetime) -> Hour:
    """The verdict on a collected row of `hours`, whose `hour` is aware."""
    known = {name: row[f"source_{name}"] for name in _SOURCES}
    sources = {name: count for name, count in {**known, "unknown": row["rows"] - sum(known.values())}.items() if count}
    label = EXCHANGES[exchange].label
    if row["unnumbered"]:
        return Hour(label, row["symbol"], row["hour"], None, None, None, row["rows"], (), sources, UNVERIFIABLE)
    missing = tuple((entry["first"], entry["last"]) for entry in row["missing"])
    lacking = sum(last - first + 1 for first, last in missing)
    state = INCOMPLETE if missing else COMPLETE
    if now < row["hour"] + _HOUR + MARGIN:
        state = OPEN
    return Hour(
        label, row["symbol"], row["hour"], str(row["first"]), str(row["last"]), row["present"] + lacking,
        row["present"], missing, sources, state,
    )  # fmt: skip


def judged(found: Hour, gaps: Iterable[Gap]) -> tuple[list[str], list[str]]:
    """What is to be told of an hour's missing ids: findings, and what is still in repair."""
    findings, in_repair = [], []
    for first, last in found.missing:
        listed = [gap for gap in gaps if gap.symbol == found.symbol and gap.first <= last and gap.last >= first]
        count = last - first + 1
        ids = f"id {first} is" if count == 1 else f"ids {first} to {last} ({count}) are"
        where = f"{found.exchange} {found.symbol} {found.hour:%Y-%m-%dT%H:00Z}"
        states = sorted({f"{gap.state} ({gap.method})" if gap.method else gap.state for gap in listed})
        if found.state == OPEN and any(gap.state == "open" for gap in listed):
            in_repair.append(f"{where}: {ids} missing and in repair")
            continue
        told = f"audit_gaps lists them as {', '.join(states)}" if states else "audit_gaps does not list them"
        findings.append(f"{where}: {ids} missing; {told}")
    return findings, in_repair


def write(spark: SparkSession, found: Iterable[Hour], gold_snapshot: int | None, now: datetime) -> None:
    """Puts verdicts into audit_completeness, in place of older ones of the same hours."""
    rows = [
        {
            "exchange": hour.exchange, "symbol": hour.symbol, "hour": hour.hour, "first_id": hour.first_id,
            "last_id": hour.last_id, "expected": hour.expected, "present": hour.present,
            "missing": [{"first_id": str(first), "last_id": str(last)} for first, last in hour.missing],
            "by_source": hour.by_source, "state": hour.state, "gold_snapshot_id": gold_snapshot, "checked_at": now,
        }
        for hour in found
    ]  # fmt: skip
    if not rows:
        return
    table = COMPLETENESS_TABLE
    verdicts = frame(spark, rows, ", ".join(f"`{column.name}` {column.type}" for column in table.columns))
    same = " AND ".join(f"{table.name}.{name} = verdict.{name}" for name in ("exchange", "symbol", "hour"))

    def merge() -> None:
        into = verdicts.alias("verdict").mergeInto(table.identifier, F.expr(same))
        into.whenMatched().updateAll().whenNotMatched().insertAll().merge()

    until_won(merge)
