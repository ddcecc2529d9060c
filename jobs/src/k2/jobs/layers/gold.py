"""Gold: exact deduplication by message id, without a watermark.

DataFrames in, DataFrames out. Duplicates are looked up in Gold itself: equal trades have the same id and the same
exchange time, so only the minutes that the batch touches are read. There is no state store that could expire, and no
late trade is dropped. Of equal trades the one with the lowest Kafka offset is kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import batch_time
from k2.schemas.tables import TRADE_COLUMNS

# REST and websocket may report a trade's time with different precision, but differ by far less than a second.
MARGIN: Final = timedelta(seconds=1)
_OFFSET_BITS: Final = 44  # offsets up to 17 trillion a partition, a million partitions
_IN_GOLD: Final = -1
_MAX_TIME_RANGES: Final = 64  # a batch that touches more ranges than this also reads what lies between the closest


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A range of exchange time, both ends included."""

    start: datetime
    end: datetime


def minute() -> Column:
    """Return the minute of a trade, in minutes since 1970: a number, so no time zone is involved."""
    return F.expr("unix_micros(timestamp) div 60000000")


def time_ranges(minutes: Iterable[int]) -> tuple[TimeRange, ...]:
    """Return the merged time ranges in which trades of these minutes may lie; at most `_MAX_TIME_RANGES`."""
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


def in_time_ranges(ranges: Iterable[TimeRange]) -> Column:
    """Return the filter for Gold rows in time ranges; it prunes partitions by hour and files by their statistics."""
    conditions = [
        F.col("exchange_date").between(F.lit(time_range.start.date()), F.lit(time_range.end.date()))
        & _hours(time_range)
        & F.col("timestamp").between(F.lit(time_range.start), F.lit(time_range.end))
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


def candidate_ids(batch: DataFrame, in_gold: DataFrame) -> DataFrame:
    """Return the message ids of the batch and of Gold nearby, each with its hash and its Kafka position.

    Trades that are in Gold already have position -1, so they win over all others.
    """
    arrived = batch.select("message_id", kafka_position().alias("position"))
    stored = in_gold.select("message_id", F.lit(_IN_GOLD).cast("bigint").alias("position"))
    return arrived.unionByName(stored).select(F.xxhash64("message_id").alias("hash"), "*")


def possible_duplicates(ids: DataFrame) -> DataFrame:
    """Return the hashes that occur more than once. Nearly always there are none, and numbers are cheap to count."""
    return ids.groupBy("hash").count().where("count > 1").select("hash")


def duplicates(ids: DataFrame) -> DataFrame:
    """Return the message ids that occur more than once, with the position of the row to keep (-1: already in Gold)."""
    counted = ids.groupBy("message_id").agg(F.count("*").alias("times"), F.min("position").alias("position"))
    return counted.where("times > 1").select("message_id", "position")


def drop_duplicates(batch: DataFrame, duplicates: DataFrame) -> DataFrame:
    """Return the batch with only the row to keep of each of the `duplicates`."""
    joined = batch.join(duplicates, "message_id", "left")
    return joined.where(F.col("position").isNull() | (F.col("position") == kafka_position())).drop("position")


def to_gold(trades: DataFrame) -> DataFrame:
    """Return Silver trades with the columns of Gold."""
    columns = [name for name in TRADE_COLUMNS if name != "vendor_data"]
    return trades.select(
        *columns,
        F.to_json("vendor_data").alias("vendor_data"),
        batch_time.now().alias("gold_ingestion_timestamp"),
        F.to_date("timestamp").alias("exchange_date"),
        F.hour("timestamp").alias("exchange_hour"),
    )
