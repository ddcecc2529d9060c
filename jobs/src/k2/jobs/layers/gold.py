"""Gold: exact deduplication by the identity of a channel's records, without a watermark.

DataFrames in, DataFrames out. Duplicates are looked up in Gold itself: equal records have the same identity and the
same time, so only the minutes that the batch touches are read. There is no state store that could expire, and no late
record is dropped. Of equal records the one with the lowest Kafka offset is kept.
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
_MAX_TIME_RANGES: Final = 64  # a batch that touches more ranges than this also reads what lies between the closest


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A range of the records' time, both ends included."""

    start: datetime
    end: datetime


def record_time(channel: Channel) -> Column:
    """Return the time of a record: a plain column if the channel has only one, so that its statistics prune files."""
    first, *others = map(F.col, channel.time_columns)
    return F.coalesce(first, *others) if others else first


def minute(channel: Channel) -> Column:
    """Return the minute of a record, in minutes since 1970: a number, so no time zone is involved."""
    return F.call_function("div", F.unix_micros(record_time(channel)), F.lit(60_000_000))


def time_ranges(minutes: Iterable[int]) -> tuple[TimeRange, ...]:
    """Return the merged time ranges in which records of these minutes may lie; at most `_MAX_TIME_RANGES`."""
    ranges: list[TimeRange] = []
    for number in sorted(minutes):
        begin = datetime.fromtimestamp(number * 60, UTC)
        start, end = begin - MARGIN, begin + timedelta(minutes=1) + MARGIN
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
    time = record_time(channel)
    conditions = [
        F.col("exchange_date").between(F.lit(time_range.start.date()), F.lit(time_range.end.date()))
        & _hours(time_range)
        & time.between(F.lit(time_range.start), F.lit(time_range.end))
        for time_range in ranges
    ]
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
