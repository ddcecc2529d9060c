"""Checks that Bronze has no gaps or duplicates, and each of its rows once in Silver or the dead letters."""

from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any, Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import without
from k2.jobs.audit.offsets import bitmaps
from k2.jobs.audit.offsets.bitmaps import Partition, TopicPartition
from k2.jobs.audit.pinned_snapshots import Frontier
from k2.jobs.audit.records import conflicts
from k2.jobs.audit.scope import Scope
from k2.jobs.audit.verdicts.verdict import BRONZE, SILVER
from k2.schemas.content import ID_CONFLICT

# Kafka's timestamps need not rise with its offsets, so rows just after a pruned day can be deleted as well.
_EDGE: Final = "1 minute"
_POSITION: Final = ("topic", "partition", "offset")
_MAX_BUCKETS: Final = 20
_MAX_OFFSETS: Final = 10_000


@dataclass(frozen=True, slots=True)
class CheckedOffsets:
    """The first offset that was checked of each partition, up to which Silver has read, and what it lacks."""

    floors: dict[TopicPartition, int]
    frontier: Frontier
    missing: int


def check(scope: Scope) -> CheckedOffsets:
    """Report the offsets that a layer lacks or has more than once, and count rows and dead letters."""
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
    if is_whole:
        partitions |= {key: Partition() for key in extents if key not in partitions}
    checked = CheckedOffsets({}, frontiers, 0)
    pending = total_missing = 0
    for key, partition in sorted(partitions.items()):
        stored = partition.extent()
        extent = extents.get(key, stored) if is_whole or stored else None
        if extent is None:
            if is_whole:
                orphans = partition.orphans(-1)
                _add_ranges(scope, "silver_orphan", key, "only Silver or the dead letters have", orphans)
            continue
        first, last = stored or extent
        last = max(last, extent[1])
        floor = min(first, extent[0]) if is_whole else max(first, first_offsets.get(key, 0))
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
        lost = (partition.unprocessed(begin, min(end, frontier - 1)) for begin, end in gaps if begin < frontier)
        missing = list(bitmaps.merge_adjacent(sorted([*missing, *chain.from_iterable(lost)])))
        total_missing += sum(end - begin + 1 for begin, end in missing)
        _add_ranges(scope, "silver_missing", key, "missing in Silver and the dead letters:", missing)
        _add_ranges(scope, "silver_orphan", key, "not in Bronze:", partition.orphans(last))
        pending += partition.pending(max(floor, frontier))
    counts = [bucket.rows for partition in partitions.values() for bucket in partition.buckets.values()]
    for index, layer in enumerate(("bronze", "silver", "dead_letters")):
        scope.report.rows[layer] = sum(rows[index] for rows in counts)
    scope.report.lag["silver"] = pending
    if scope.report.rows["dead_letters"]:
        _check_dead_letters(scope)
    return CheckedOffsets(checked.floors, frontiers, total_missing)


def _check_dead_letters(scope: Scope) -> None:
    categories = scope.dead_letters.groupBy("error_category").count().collect()
    scope.report.dead_letters = {row[0]: row[1] for row in sorted(categories)}
    if ID_CONFLICT in scope.report.dead_letters:
        for text in conflicts.in_dead_letters(scope.dead_letters):
            scope.add("id_conflict", text)


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


def _add_ranges(scope: Scope, check: str, key: TopicPartition, problem: str, ranges: Any) -> None:
    if text := bitmaps.format_ranges(ranges):
        layer = BRONZE if check.startswith(BRONZE) else SILVER
        scope.add(check, f"{key[0]}/{key[1]}: {problem} offset {text}", layer)


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
