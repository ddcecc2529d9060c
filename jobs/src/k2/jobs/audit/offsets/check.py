"""Checks that Bronze has no gaps or duplicates, and each of its rows once in Silver or the dead letters."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from itertools import chain
from operator import or_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range, without
from k2.jobs.audit.offsets import bitmaps, places
from k2.jobs.audit.offsets.bitmaps import Partition, TopicPartition
from k2.jobs.audit.pinned_snapshots import Frontier
from k2.jobs.audit.records import conflicts
from k2.jobs.audit.scope import Scope
from k2.jobs.audit.verdicts.verdict import BRONZE, SILVER
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.content import ID_CONFLICT

# Kafka's timestamps need not rise with its offsets, so rows just after a pruned day can be deleted as well.
_EDGE: Final = "1 minute"
_BEFORE: Final = timedelta(hours=26)
_POSITION: Final = ("topic", "partition", "offset")
# The checks whose offsets Bronze has; those of the others are in Silver, if anywhere.
_PLACED_BY_BRONZE: Final = frozenset({"silver_missing", "bronze_duplicate"})
_MAX_BUCKETS: Final = 20
_MAX_OFFSETS: Final = 10_000


@dataclass(frozen=True, slots=True)
class CheckedOffsets:
    """The first offset that was checked of each partition, up to which Silver has read, and what it lacks."""

    floors: dict[TopicPartition, int]
    frontier: Frontier
    missing: int


def check(scope: Scope, lost: Collection[tuple[str, int, int]] = ()) -> CheckedOffsets:
    """Report the offsets that a layer lacks or has more than once, and count rows and dead letters.

    `lost` are dead letters of which it is a finding already that they were changed or deleted.
    """
    pinned, channel, is_recent = scope.pinned, scope.channel, scope.since is not None
    rows = bitmaps.bitmaps(scope.bronze, scope.recent_silver, scope.dead_letters)
    partitions = bitmaps.partitions(row.asDict() for row in rows.toLocalIterator())
    frontiers = pinned.silver_frontier(scope.exchange, channel, partitions)
    pruned = pinned.pruned_before(scope.bronze_table)
    first_offsets = _first_offsets(scope, pruned)
    recorded_as_lost = pinned.lost(scope.bronze_table)
    scope.report.lost = {
        f"{topic}/{number}": bitmaps.format_ranges(ranges) for (topic, number), ranges in recorded_as_lost.items()
    }
    is_whole = pruned is None and not is_recent
    extents = pinned.bronze_extents(scope.exchange, channel)
    judged = _judged_before(scope)
    if is_whole:
        partitions |= {key: Partition() for key in extents if key not in partitions}
    partitions |= {key: Partition() for key in judged if key not in partitions}
    checked = CheckedOffsets({}, frontiers, 0)
    pending = total_missing = 0
    for key, partition in sorted(partitions.items()):
        stored = partition.extent()
        extent = extents.get(key, stored) if is_whole or stored or key in judged else None
        if extent is None:
            if is_whole:
                orphans = partition.orphans(-1)
                _add_ranges(scope, "silver_orphan", key, "only Silver or the dead letters have", orphans)
            continue
        first, last = stored or extent
        last = max(last, extent[1])
        floor = min(first, extent[0]) if is_whole else judged.get(key, max(first, first_offsets.get(key, 0)))
        frontier = frontiers.get(key, 0)
        checked.floors[key] = floor
        # What Silver has was not lost before Bronze read it.
        excused = chain.from_iterable(partition.unprocessed(*offsets) for offsets in recorded_as_lost.get(key, []))
        gaps = without(list(partition.gaps(floor, last)), excused)
        _add_ranges(scope, "bronze_gap", key, "missing in Bronze:", gaps)
        _add_duplicates(scope, "bronze_duplicate", key, "Bronze", partition.duplicate_buckets(floor, bronze=True))
        processed_twice = partition.duplicate_buckets(floor, bronze=False)
        _add_duplicates(scope, "silver_duplicate", key, "Silver and dead letters", processed_twice)
        missing = list(partition.missing(floor, frontier))
        unprocessed = (partition.unprocessed(begin, min(end, frontier - 1)) for begin, end in gaps if begin < frontier)
        missing = list(bitmaps.merge_adjacent(sorted([*missing, *chain.from_iterable(unprocessed)])))
        missing = list(
            without(missing, [(offset, offset) for topic, number, offset in sorted(lost) if (topic, number) == key])
        )
        total_missing += sum(end - begin + 1 for begin, end in missing)
        _add_ranges(scope, "silver_missing", key, "missing in Silver and the dead letters:", missing)
        _add_ranges(scope, "silver_orphan", key, "not in Bronze:", partition.orphans(last))
        pending += partition.pending(max(floor, frontier))
    counts = [bucket.rows for partition in partitions.values() for bucket in partition.buckets.values()]
    for index, layer in enumerate(("bronze", "silver", "dead_letters")):
        scope.report.rows[layer] = sum(rows[index] for rows in counts)
    scope.report.lag["silver"] = pending
    if pending:
        scope.note_pending(_beyond(scope, frontiers), F.col("kafka_timestamp"))
    if scope.report.rows["dead_letters"]:
        _check_dead_letters(scope)
    return CheckedOffsets(checked.floors, frontiers, total_missing)


def _check_dead_letters(scope: Scope) -> None:
    categories = scope.dead_letters.groupBy("error_category").count().collect()
    scope.report.dead_letters = {row[0]: row[1] for row in sorted(categories)}
    if ID_CONFLICT in scope.report.dead_letters:
        for text in conflicts.in_dead_letters(scope.dead_letters):
            scope.add("id_conflict", text)


def _beyond(scope: Scope, frontiers: Frontier) -> DataFrame:
    """Return the Bronze rows that Silver has not read."""
    limits = [{"topic": topic, "partition": number, "upto": upto} for (topic, number), upto in frontiers.items()]
    limit = F.broadcast(local_frame(scope.spark, limits, "topic string, partition int, upto bigint"))
    return scope.bronze.join(limit, ["topic", "partition"], "left").where("offset >= coalesce(upto, 0)")


def _judged_before(scope: Scope) -> dict[TopicPartition, int]:
    """Return the first offset after those that an audit has judged, of partitions with rows shortly before `since`.

    Without it, the first offset that is left would be the first to check, whatever was deleted before it.
    """
    if not scope.incremental or scope.since is None:
        return {}
    time = F.col("kafka_timestamp")
    before = scope.pinned.rows(scope.bronze_table).where(
        (time < F.lit(scope.since)) & (time >= F.lit(scope.since - _BEFORE))
    )
    rows = before.groupBy("topic", "partition").agg(F.max("offset").alias("last")).collect()
    return {(row["topic"], row["partition"]): row["last"] + 1 for row in rows}


def _first_offsets(scope: Scope, pruned: str | None) -> dict[TopicPartition, int]:
    """Return the first offset to check of each partition, where that is not the partition's first."""
    if pruned is None and scope.since is None:
        return {}
    kafka, offset = F.col("kafka_timestamp"), F.col("offset")
    since = kafka >= F.lit(scope.since) if scope.since else F.lit(True)
    edge = kafka < F.lit(pruned).cast("timestamp") + F.expr(f"INTERVAL {_EDGE}") if pruned else F.lit(False)
    partitions = scope.bronze.groupBy("topic", "partition").agg(
        F.max("offset").alias("last"),
        F.min(F.when(since, offset)).alias("since"),
        F.max(F.when(edge, offset)).alias("edge"),
    )
    return {
        (row["topic"], row["partition"]): max(
            row["last"] + 1 if row["since"] is None else row["since"],
            0 if row["edge"] is None else row["edge"] + 1,
        )
        for row in partitions.collect()
    }


def _add_ranges(scope: Scope, check: str, key: TopicPartition, problem: str, ranges: Iterable[Range]) -> None:
    """Add a finding for each symbol and hour that some offsets belong to."""
    if not (listed := list(ranges)):
        return
    layer = BRONZE if check.startswith(BRONZE) else SILVER
    # Bronze is not decoded: its rows have the symbol as a key.
    rows = (
        scope.bronze.select(
            *_POSITION, F.col("key").cast("string").alias("symbol"), F.col("kafka_timestamp").alias("at")
        )
        if check in _PLACED_BY_BRONZE
        else scope.silver.select(*_POSITION, "symbol", scope.time.alias("at"))
    )
    for (symbol, hour), offsets in places.by_place(rows, key, listed).items():
        text = f"{key[0]}/{key[1]}: {problem} offset {bitmaps.format_ranges(offsets)}"
        scope.add(check, text, layer, symbol, hour)


def _add_duplicates(scope: Scope, check: str, key: TopicPartition, layer: str, buckets: list[int]) -> None:
    """Add a finding that names the duplicate offsets; reads only the rows of their buckets."""
    if not buckets:
        return
    rows = (
        scope.bronze
        if check == "bronze_duplicate"
        else scope.recent_silver.select(*_POSITION).union(scope.dead_letters.select(*_POSITION))
    )
    in_buckets = reduce(or_, (_in_bucket(number) for number in buckets[:_MAX_BUCKETS]))
    in_partition = (F.col("topic") == key[0]) & (F.col("partition") == key[1])
    counted = rows.where(in_partition & in_buckets).groupBy("offset").count().where("count > 1").orderBy("offset")
    duplicates = [(row["offset"], row["offset"]) for row in counted.limit(_MAX_OFFSETS).collect()]
    _add_ranges(scope, check, key, f"more than once in {layer}:", bitmaps.merge_adjacent(duplicates))


def _in_bucket(number: int) -> Column:
    return F.col("offset").between(number * bitmaps.WIDTH, (number + 1) * bitmaps.WIDTH - 1)
