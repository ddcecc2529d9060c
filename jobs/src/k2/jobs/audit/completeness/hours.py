"""Completeness of each hour: from the exchanges' own ids where they are consecutive, or from an adapter's verdicts.

A range of missing ids belongs to the hour of the record after it. Spark aggregates Gold to one row an hour; the hours
are evaluated here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range, count, within, without
from k2.jobs.audit.completeness import seconds as durations
from k2.jobs.layers.gold import record_time
from k2.schemas.channels import Channel, Sequencing
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import SequenceScheme
from k2.schemas.records.trade import Source
from k2.schemas.states import GapState, HourState, Verdict

OPEN: Final = HourState.OPEN.value
COMPLETE: Final = HourState.COMPLETE.value
INCOMPLETE: Final = HourState.INCOMPLETE.value
UNVERIFIABLE: Final = HourState.UNVERIFIABLE.value

# How long after an hour its records may still arrive.
MARGIN: Final = timedelta(minutes=5)
_HOUR: Final = timedelta(hours=1)
# A higher id whose record is older by more than this (µs) is of another numbering: the ids between were never issued.
_RENUMBERED: Final = 60_000_000
_SOURCES: Final = tuple(source.value for source in Source)
_UNKNOWN: Final = "unknown"
_VENDOR_DATA: Final = "vendor_data"


@dataclass(frozen=True, slots=True)
class Gap:
    """A row of audit_gaps with numeric ids: the first and last missing one, and the state of the gap.

    `missing` are the ids that never arrived, and `evidence` the answers that its state rests on.
    The times are in UTC microseconds, 0 if not known.
    """

    symbol: str
    first: int
    last: int
    state: str
    resolution: str
    missing: tuple[Range, ...] = ()
    evidence: tuple[str, ...] = ()
    detected_at: int = 0
    resolved_at: int = 0


@dataclass(frozen=True, slots=True)
class HourCompleteness:
    """The completeness of one hour of a symbol. `hour` is its start, timezone-aware.

    `seconds` are those of the hour by verdict (`k2.jobs.audit.completeness.seconds`), where an adapter judges.
    """

    exchange: str
    channel: str
    symbol: str
    hour: datetime
    first_id: str | None
    last_id: str | None
    expected: int | None
    actual: int
    missing: tuple[Range, ...]
    by_source: Mapping[str, int]
    state: str
    seconds: Mapping[str, int] = field(default_factory=dict)
    never_issued: tuple[Range, ...] = ()  # ids that are not expected


def hours(gold: DataFrame, channel: Channel, exchange: str, before: DataFrame | None = None) -> DataFrame:
    """Aggregate the Gold rows of one exchange by symbol and hour: rows by source, and what verifies completeness.

    That is the ranges of missing ids where ids are consecutive, or the number of rows by the adapter's verdict.
    `before` are the last ids (`number`) by `symbol` before these rows, if they are not all.
    """
    columns = [
        F.col("symbol"),
        F.date_trunc("hour", record_time(channel)).alias("hour"),
        _source(channel).alias("source"),
    ]
    by_source = [F.count_if(F.col("source") == name).alias(f"source_{name}") for name in _SOURCES]
    if has_consecutive_ids(channel, exchange):
        return _with_missing_ids(gold, columns, by_source, channel, before)
    verdict = F.col(channel.verdict_column) if channel.verdict_column else F.lit(None).cast("string")
    return (
        gold.select(*columns, verdict.alias("verdict"))
        .groupBy("symbol", "hour")
        .agg(
            F.count("*").alias("rows"),
            F.count_if(F.col("verdict") == Verdict.VERIFIED.value).alias("verified"),
            F.count_if(F.col("verdict") == Verdict.SUSPECT.value).alias("suspect"),
            *by_source,
        )
    )


def has_consecutive_ids(channel: Channel, exchange: str) -> bool:
    """Return whether the exchange's own ids prove that no record is missing. A channel's verdicts overrule them."""
    consecutive = EXCHANGES[exchange].sequence is SequenceScheme.CONSECUTIVE
    return consecutive and channel.sequencing is Sequencing.EXCHANGE_IDS and not channel.verdict_column


def _with_missing_ids(
    gold: DataFrame,
    columns: Sequence[Column],
    by_source: Sequence[Column],
    channel: Channel,
    earlier: DataFrame | None,
) -> DataFrame:
    numbered = gold.select(
        *columns,
        F.unix_micros(record_time(channel)).alias("at"),
        F.expr(f"try_cast({channel.id_column} AS bigint)").alias("number"),
    )
    if earlier is not None:
        numbered = numbered.unionByName(earlier.withColumn("at", F.lit(0).cast("bigint")), allowMissingColumns=True)
    # Rows without a numeric id form windows of their own, in which nothing is missing.
    order = Window.partitionBy("symbol", F.col("number").isNull()).orderBy("number")
    before = order.rowsBetween(Window.unboundedPreceding, -1)
    with_previous = numbered.select(
        "*",
        F.max("number").over(before).alias("before"),
        (F.lag("at").over(order) > F.col("at") + _RENUMBERED).alias("renumbered"),
    )
    has_gap = (F.col("number") > F.col("before") + 1) & ~F.coalesce("renumbered", F.lit(False))
    gap = F.struct((F.col("before") + 1).alias("first"), (F.col("number") - 1).alias("last"))
    is_new = F.col("number") > F.coalesce("before", F.lit(-1))
    return (
        with_previous.where("hour IS NOT NULL")
        .groupBy("symbol", "hour")
        .agg(
            F.min("number").alias("first"),
            F.max("number").alias("last"),
            F.count_if(is_new).alias("actual"),
            F.array_sort(F.collect_list(F.when(has_gap, gap))).alias("missing"),
            F.count("*").alias("rows"),
            F.count_if(F.col("number").isNull()).alias("unnumbered"),
            *by_source,
        )
    )


def _source(channel: Channel) -> Column:
    """Return how a record was received, as the adapter wrote it into its vendor data."""
    if _VENDOR_DATA not in channel.map_columns:
        return F.lit(_UNKNOWN)
    return F.coalesce(F.get_json_object(_VENDOR_DATA, "$.source"), F.lit(_UNKNOWN))


def evaluate(
    row: Mapping[str, Any],
    channel: Channel,
    exchange: str,
    now: datetime,
    never_issued: Sequence[Range] = (),
    seconds: Mapping[str, int] | None = None,
) -> HourCompleteness:
    """Return the completeness for a collected row of `hours`, whose `hour` is timezone-aware.

    `never_issued` are the symbol's ids that the exchange is proved to have skipped; `seconds` those of the hour.
    """
    counts = {name: row[f"source_{name}"] for name in _SOURCES}
    counts[_UNKNOWN] = row["rows"] - sum(counts.values())
    sources = {name: count for name, count in counts.items() if count}
    label, is_open = EXCHANGES[exchange].label, now < row["hour"] + _HOUR + MARGIN
    if not has_consecutive_ids(channel, exchange) or row["unnumbered"]:
        spent = dict(seconds or {})
        state = _state_by_verdict(row, spent, is_open=is_open) if channel.verdict_column else UNVERIFIABLE
        return HourCompleteness(
            label, channel.name, row["symbol"], row["hour"], None, None, None, row["rows"], (), sources, state, spent
        )
    absent = [(entry["first"], entry["last"]) for entry in row["missing"]]
    skipped, missing = tuple(sorted(within(absent, never_issued))), tuple(without(absent, never_issued))
    state = INCOMPLETE if missing else COMPLETE
    return HourCompleteness(
        label, channel.name, row["symbol"], row["hour"], str(row["first"]), str(row["last"]),
        row["actual"] + count(missing), row["actual"], missing, sources, OPEN if is_open else state,
        never_issued=skipped,
    )  # fmt: skip


def without_rows(
    symbol: str, hour: datetime, channel: Channel, exchange: str, now: datetime, seconds: Mapping[str, int]
) -> HourCompleteness:
    """Return the completeness of an hour between others in which no record of a symbol came."""
    none = dict.fromkeys((*(f"source_{name}" for name in _SOURCES), "rows", "verified", "suspect"), 0)
    return evaluate({**none, "symbol": symbol, "hour": hour}, channel, exchange, now, seconds=seconds)


def _state_by_verdict(row: Mapping[str, Any], seconds: Mapping[str, int], *, is_open: bool) -> str:
    if is_open:
        return OPEN
    if seconds:
        if durations.is_lossy(seconds):
            return INCOMPLETE
        return COMPLETE if durations.is_verified(seconds) else UNVERIFIABLE
    if row["suspect"]:  # the only record of its connection
        return INCOMPLETE
    return COMPLETE if row["verified"] == row["rows"] else UNVERIFIABLE


def describe_lost_time(hour: HourCompleteness) -> tuple[list[str], list[str]]:
    """Return texts about an incomplete hour's time, where an adapter judges: the findings, and what is only listed."""
    where = f"{hour.exchange} {hour.symbol} {hour.hour:%Y-%m-%dT%H:00Z}"
    missing, suspect = hour.seconds.get(durations.MISSING, 0), hour.seconds.get(Verdict.SUSPECT.value, 0)
    listed = [f"{where}: for {missing} s no connection recorded it or had its state"] if missing else []
    if missing and not suspect:
        return [], listed
    return [f"{where}: records are suspect for {suspect} s, so that records before them are missing"], listed


def contradicted(hour: HourCompleteness, gaps: Iterable[Gap]) -> list[Gap]:
    """Return the gaps that are listed as repaired although ids of them are missing in a closed hour."""
    if hour.state == OPEN:
        return []  # what repaired them is on its way
    return [
        gap
        for gap in gaps
        if gap.state == GapState.REPAIRED
        and gap.symbol == hour.symbol
        and any(gap.first <= last and gap.last >= first for first, last in hour.missing)
    ]


def describe_missing(hour: HourCompleteness, gaps: Iterable[Gap]) -> tuple[list[str], list[str]]:
    """Return texts about an hour's missing ids: the findings, and the ranges that are still in repair."""
    findings, in_repair = [], []
    for first, last in hour.missing:
        listed = [gap for gap in gaps if gap.symbol == hour.symbol and gap.first <= last and gap.last >= first]
        count = last - first + 1
        ids = f"id {first} is" if count == 1 else f"ids {first} to {last} ({count}) are"
        where = f"{hour.exchange} {hour.symbol} {hour.hour:%Y-%m-%dT%H:00Z}"
        states = sorted({f"{gap.state} ({gap.resolution})" if gap.resolution else gap.state for gap in listed})
        if hour.state == OPEN and any(gap.state == GapState.OPEN for gap in listed):
            in_repair.append(f"{where}: {ids} missing and in repair")
            continue
        listing = f"audit_gaps lists them as {', '.join(states)}" if states else "audit_gaps does not list them"
        findings.append(f"{where}: {ids} missing; {listing}")
    return findings, in_repair
