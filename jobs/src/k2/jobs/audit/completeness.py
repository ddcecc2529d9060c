"""Completeness of each hour, from the exchanges' own trade ids where they are consecutive.

A range of missing ids belongs to the hour of the trade after it. Spark aggregates Gold to one row an hour; the hours
are evaluated here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.offsets import Range
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import SequenceScheme
from k2.schemas.records.trade import Source
from k2.schemas.states import GapState, HourState
from k2.schemas.tables import COMPLETENESS_TABLE

OPEN: Final = HourState.OPEN.value
COMPLETE: Final = HourState.COMPLETE.value
INCOMPLETE: Final = HourState.INCOMPLETE.value
UNVERIFIABLE: Final = HourState.UNVERIFIABLE.value

# How long after an hour its trades may still arrive.
MARGIN: Final = timedelta(minutes=5)
_HOUR: Final = timedelta(hours=1)
# A higher id whose trade is older by more than this (µs) is of another numbering: the ids between were never issued.
_RENUMBERED: Final = 60_000_000
_SOURCES: Final = tuple(source.value for source in Source)


@dataclass(frozen=True, slots=True)
class Gap:
    """A row of audit_gaps with numeric ids: the first and last missing one, and the state of the gap."""

    symbol: str
    first: int
    last: int
    state: str
    method: str


@dataclass(frozen=True, slots=True)
class HourCompleteness:
    """The completeness of one hour of a symbol. `hour` is its start, timezone-aware."""

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
    """Aggregate the Gold rows of one exchange by symbol and hour, with the ranges of missing ids."""
    numbered = gold.select(
        "symbol",
        F.date_trunc("hour", "timestamp").alias("hour"),
        F.expr("unix_micros(timestamp)").alias("at"),
        F.coalesce(F.get_json_object("vendor_data", "$.source"), F.lit("unknown")).alias("source"),
        _last(exchange).alias("last"),
        _count(exchange).alias("ids"),
    ).withColumn("first", F.greatest(F.lit(1), F.col("last") - F.col("ids") + 1))
    # Rows without a numeric id form windows of their own, in which nothing is missing.
    order = Window.partitionBy("symbol", F.col("last").isNull()).orderBy("first", "last")
    before = order.rowsBetween(Window.unboundedPreceding, -1)
    with_previous = numbered.select(
        "*",
        F.max("last").over(before).alias("before"),
        (F.lag("at").over(order) > F.col("at") + _RENUMBERED).alias("renumbered"),
    )
    starts = F.greatest(F.col("first"), F.coalesce(F.col("before") + 1, F.col("first")))
    has_gap = (F.col("first") > F.col("before") + 1) & ~F.coalesce("renumbered", F.lit(False))
    gap = F.struct((F.col("before") + 1).alias("first"), (F.col("first") - 1).alias("last"))
    return with_previous.groupBy("symbol", "hour").agg(
        F.min("first").alias("first"),
        F.max("last").alias("last"),
        F.sum(F.greatest(F.lit(0), F.col("last") - starts + 1)).alias("present"),
        F.array_sort(F.collect_list(F.when(has_gap, gap))).alias("missing"),
        F.count("*").alias("rows"),
        F.count_if(F.col("last").isNull()).alias("unnumbered"),
        *(F.count_if(F.col("source") == name).alias(f"source_{name}") for name in _SOURCES),
    )


def _last(exchange: str) -> Column:
    """Return the trade id as a number; null on exchanges whose ids are not consecutive."""
    if EXCHANGES[exchange].sequence is not SequenceScheme.CONSECUTIVE:
        return F.lit(None).cast("bigint")
    return F.expr("try_cast(trade_id AS bigint)")


def _count(exchange: str) -> Column:
    if not EXCHANGES[exchange].aggregates:
        return F.lit(1)
    return F.greatest(
        F.lit(1), F.coalesce(F.expr("try_cast(get_json_object(vendor_data, '$.count') AS int)"), F.lit(1))
    )


def evaluate(row: Mapping[str, Any], exchange: str, now: datetime) -> HourCompleteness:
    """Return the completeness for a collected row of `hours`, whose `hour` is timezone-aware."""
    counts = {name: row[f"source_{name}"] for name in _SOURCES}
    counts["unknown"] = row["rows"] - sum(counts.values())
    sources = {name: count for name, count in counts.items() if count}
    label = EXCHANGES[exchange].label
    if row["unnumbered"]:
        return HourCompleteness(
            label, row["symbol"], row["hour"], None, None, None, row["rows"], (), sources, UNVERIFIABLE
        )
    missing = tuple((entry["first"], entry["last"]) for entry in row["missing"])
    missing_count = sum(last - first + 1 for first, last in missing)
    state = INCOMPLETE if missing else COMPLETE
    if now < row["hour"] + _HOUR + MARGIN:
        state = OPEN
    return HourCompleteness(
        label, row["symbol"], row["hour"], str(row["first"]), str(row["last"]), row["present"] + missing_count,
        row["present"], missing, sources, state,
    )  # fmt: skip


def describe_missing(hour: HourCompleteness, gaps: Iterable[Gap]) -> tuple[list[str], list[str]]:
    """Return texts about an hour's missing ids: the findings, and the ranges that are still in repair."""
    findings, in_repair = [], []
    for first, last in hour.missing:
        listed = [gap for gap in gaps if gap.symbol == hour.symbol and gap.first <= last and gap.last >= first]
        count = last - first + 1
        ids = f"id {first} is" if count == 1 else f"ids {first} to {last} ({count}) are"
        where = f"{hour.exchange} {hour.symbol} {hour.hour:%Y-%m-%dT%H:00Z}"
        states = sorted({f"{gap.state} ({gap.method})" if gap.method else gap.state for gap in listed})
        if hour.state == OPEN and any(gap.state == GapState.OPEN for gap in listed):
            in_repair.append(f"{where}: {ids} missing and in repair")
            continue
        listing = f"audit_gaps lists them as {', '.join(states)}" if states else "audit_gaps does not list them"
        findings.append(f"{where}: {ids} missing; {listing}")
    return findings, in_repair


def write(spark: SparkSession, hours: Iterable[HourCompleteness], gold_snapshot: int | None, now: datetime) -> None:
    """Merge hours into audit_completeness, replacing older results for the same hours."""
    rows = [
        {
            "exchange": hour.exchange, "symbol": hour.symbol, "hour": hour.hour, "first_id": hour.first_id,
            "last_id": hour.last_id, "expected": hour.expected, "present": hour.present,
            "missing": [{"first_id": str(first), "last_id": str(last)} for first, last in hour.missing],
            "by_source": hour.by_source, "state": hour.state, "gold_snapshot_id": gold_snapshot, "checked_at": now,
        }
        for hour in hours
    ]  # fmt: skip
    if not rows:
        return
    table = COMPLETENESS_TABLE
    results = local_frame(spark, rows, ", ".join(f"`{column.name}` {column.type}" for column in table.columns))
    same = " AND ".join(f"{table.name}.{name} = result.{name}" for name in ("exchange", "symbol", "hour"))

    def merge() -> None:
        into = results.alias("result").mergeInto(table.identifier, F.expr(same))
        into.whenMatched().updateAll().whenNotMatched().insertAll().merge()

    retry_on_conflict(merge)
