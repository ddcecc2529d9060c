"""Gold: exact deduplication by the identity of a channel's records, without a watermark.

DataFrames in, DataFrames out. Duplicates are looked up in Gold itself: equal records have the same identity and the
same time, so only the minutes that the batch touches are read, and where ids are ordered (UUIDv8) only files with ids
in the batch's ranges; new ids are in none. There is no state store that could expire, and no late record is dropped.
Of equal records the one with the lowest Kafka offset is kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import batch_time
from k2.schemas.channels import Channel

# REST and websocket may report a record's time with different precision, but differ by far less than a second.
MARGIN: Final = timedelta(seconds=1)
_OFFSET_BITS: Final = 44  # offsets up to 17 trillion a partition, a million partitions
_IN_GOLD: Final = -1
_MAX_ID_RANGES: Final = 32  # likewise for ids
_ORDERED_ID: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
_MAX_TIME_RANGES: Final = 64  # a batch that touches more ranges than this also reads what lies between the closest


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A range of the records' time, both ends included."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class IdRange:
    """A range of ids in the order of their texts, both ends included."""

    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the records of a batch are: their minutes since 1970, and the ranges of their ids; None for all ids."""

    minutes: tuple[int, ...]
    id_ranges: tuple[IdRange, ...] | None


def record_time(channel: Channel) -> Column:
    """Return the time of a record: a plain column if the channel has only one, so that its statistics prune files."""
    first, *others = map(F.col, channel.time_columns)
    return F.coalesce(first, *others) if others else first


def minute(channel: Channel) -> Column:
    """Return the minute of a record, in minutes since 1970: a number, so no time zone is involved."""
    return F.call_function("div", F.unix_micros(record_time(channel)), F.lit(60_000_000))


def extent(records: DataFrame, channel: Channel, *, with_ids: bool = True) -> Extent:
    """Collect the extent of a batch, in one job that returns a row for each minute and for each prefix of ids.

    The ids cost a second of CPU per million records, and are left out without `with_ids`.
    """
    if len(channel.identity) > 1 or not with_ids:
        return Extent(tuple(row[0] for row in records.select(minute(channel)).distinct().collect()), None)
    message_id = F.col(channel.identity[0])
    # The last 60 bits as a number: Spark sorts for the minimum of a text, not for that of a number.
    digits = F.concat(F.substring(message_id, 21, 3), F.substring(message_id, 25, 12))
    is_ordered = message_id.rlike(_ORDERED_ID)
    rows = (
        records.select(
            minute(channel).alias("minute"),
            F.when(is_ordered, F.substring(message_id, 1, 20)).otherwise("").alias("prefix"),
            F.when(is_ordered, F.conv(digits, 16, 10).cast("bigint")).alias("number"),
        )
        .groupingSets([["minute"], ["prefix"]], "minute", "prefix")
        .agg(F.min("number"), F.max("number"))
        .collect()
    )
    minutes = tuple(row["minute"] for row in rows if row["prefix"] is None)
    prefixes = [(prefix, first, last) for _, prefix, first, last in rows if prefix is not None]
    if any(not prefix for prefix, _, _ in prefixes):
        return Extent(minutes, None)
    return Extent(minutes, merged_id_ranges(IdRange(_id(*ends[:2]), _id(ends[0], ends[2])) for ends in prefixes))


def _id(prefix: str, number: int) -> str:
    digits = f"{number:015x}"
    return f"{prefix}{digits[:3]}-{digits[3:]}"


def merged_id_ranges(ranges: Iterable[IdRange]) -> tuple[IdRange, ...]:
    """Return ranges that cover disjoint ones; at most `_MAX_ID_RANGES`, with the largest distances between them."""
    ordered = sorted(ranges, key=lambda one: one.first)
    distances = [_number(later.first) - _number(earlier.last) for earlier, later in pairwise(ordered)]
    widest = sorted(range(len(distances)), key=lambda place: -distances[place])[: _MAX_ID_RANGES - 1]
    starts = [0, *(place + 1 for place in sorted(widest)), len(ordered)]
    return tuple(IdRange(ordered[first].first, ordered[after - 1].last) for first, after in pairwise(starts))


def _number(message_id: str) -> int:
    return int(message_id.replace("-", ""), 16)


def in_id_ranges(ranges: Iterable[IdRange], channel: Channel) -> Column:
    """Return the filter for Gold rows in ranges of ids; it prunes files by their statistics."""
    message_id = F.col(channel.identity[0])
    return reduce(or_, (message_id.between(one.first, one.last) for one in ranges))


def time_ranges(minutes: Iterable[int], margin: timedelta = MARGIN) -> tuple[TimeRange, ...]:
    """Return the merged time ranges in which records of these minutes may lie; at most `_MAX_TIME_RANGES`."""
    ranges: list[TimeRange] = []
    for number in sorted(minutes):
        begin = datetime.fromtimestamp(number * 60, UTC)
        start, end = begin - margin, begin + timedelta(minutes=1) + margin
        if ranges and start <= ranges[-1].end:
            ranges[-1] = TimeRange(ranges[-1].start, max(end, ranges[-1].end))
        else:
            ranges.append(TimeRange(start, end))
    while len(ranges) > _MAX_TIME_RANGES:
        distances = [later.start - earlier.end for earlier, later in pairwise(ranges)]
        closest = distances.index(min(distances))
        ranges[closest : closest + 2] = [TimeRange(ranges[closest].start, ranges[closest + 1].end)]
    return tuple(ranges)


def in_time_ranges(ranges: Iterable[TimeRange], channel: Channel) -> Column:
    """Return the filter for Gold rows in time ranges; it prunes partitions by hour and files by their statistics."""
    conditions = [
        F.col("exchange_date").between(F.lit(time_range.start.date()), F.lit(time_range.end.date()))
        & _hours(time_range)
        & within([time_range], channel)
        for time_range in ranges
    ]
    return reduce(or_, conditions) if conditions else F.lit(False)


def within(ranges: Iterable[TimeRange], channel: Channel) -> Column:
    """Return the filter for rows of any layer in time ranges; it prunes files by their statistics."""
    time = record_time(channel)
    conditions = [time.between(F.lit(time_range.start), F.lit(time_range.end)) for time_range in ranges]
    return reduce(or_, conditions) if conditions else F.lit(False)


def _hours(time_range: TimeRange) -> Column:
    if time_range.start.date() == time_range.end.date():
        return F.col("exchange_hour").between(time_range.start.hour, time_range.end.hour)
    return F.lit(True)


def kafka_position() -> Column:
    """Return partition and offset as one number, which orders the rows of a partition by offset."""
    return F.shiftleft(F.col("partition").cast("bigint"), _OFFSET_BITS) + F.col("offset")


def candidate_ids(batch: DataFrame, in_gold: DataFrame, identity: Sequence[str]) -> DataFrame:
    """Return the identities of the batch and of Gold nearby, each with its hash and its Kafka position.

    Records that are in Gold already have position -1, so they win over all others.
    """
    arrived = batch.select(*identity, kafka_position().alias("position"))
    stored = in_gold.select(*identity, F.lit(_IN_GOLD).cast("bigint").alias("position"))
    return arrived.unionByName(stored).select(F.xxhash64(*identity).alias("hash"), "*")


def possible_duplicates(ids: DataFrame) -> DataFrame:
    """Return the hashes that occur more than once. Nearly always there are none, and numbers are cheap to count."""
    return ids.groupBy("hash").count().where("count > 1").select("hash")


def duplicates(ids: DataFrame, identity: Sequence[str]) -> DataFrame:
    """Return the identities that occur more than once, with the position of the row to keep (-1: already in Gold)."""
    counted = ids.groupBy(*identity).agg(F.count("*").alias("times"), F.min("position").alias("position"))
    return counted.where("times > 1").select(*identity, "position")


def drop_duplicates(batch: DataFrame, duplicates: DataFrame, identity: Sequence[str]) -> DataFrame:
    """Return the batch with only the row to keep of each of the `duplicates`."""
    joined = batch.join(duplicates, list(identity), "left")
    return joined.where(F.col("position").isNull() | (F.col("position") == kafka_position())).drop("position")


def to_gold(records: DataFrame, channel: Channel) -> DataFrame:
    """Return Silver records with the columns of Gold."""
    time, maps = record_time(channel), channel.map_columns
    return records.select(
        *(F.to_json(name).alias(name) if name in maps else F.col(name) for name in channel.column_names),
        batch_time.now().alias("gold_ingestion_timestamp"),
        F.to_date(time).alias("exchange_date"),
        F.hour(time).alias("exchange_hour"),
    )
