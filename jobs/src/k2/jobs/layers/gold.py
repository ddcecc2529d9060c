"""Gold: each trade once, for ever, however late and however often it came.

DataFrames in, DataFrames out. Duplicates are looked for in Gold itself, where the batch's trades would lie: the same
trade has the same id and the same exchange time, so only the minutes that the batch touches are read. No state store
forgets anything, and no watermark drops anything. Of equal trades the one with the lowest Kafka offset stays.
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

# REST and websocket may tell one trade's time with different precision; a second is far more than they differ by.
MARGIN: Final = timedelta(seconds=1)
_OFFSET_BITS: Final = 44  # offsets up to 17 trillion a partition, a million partitions
_HELD: Final = -1
_MOST_SPANS: Final = 64  # a batch that touches more stretches of time than this reads what lies between them too


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of exchange time, both ends included."""

    start: datetime
    end: datetime


def minute() -> Column:
    """A trade's minute, as minutes since 1970: a number, so that no time zone is in it."""
    return F.expr("unix_micros(timestamp) div 60000000")


def spans(minutes: Iterable[int]) -> tuple[Span, ...]:
    """The stretches of time that trades of these minutes may lie in, merged; at most `_MOST_SPANS`."""
    found: list[Span] = []
    for number in sorted(minutes):
        begins = datetime.fromtimestamp(number * 60, UTC)
        start, end = begins - MARGIN, begins + timedelta(minutes=1) + MARGIN
        if found and start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(end, found[-1].end))
        else:
            found.append(Span(start, end))
    while len(found) > _MOST_SPANS:
        gaps = [later.start - earlier.end for earlier, later in pairwise(found)]
        closest = gaps.index(min(gaps))
        found[closest : closest + 2] = [Span(found[closest].start, found[closest + 1].end)]
    return tuple(found)


def within(times: Iterable[Span]) -> Column:
    """Gold rows that lie in some stretches of time: prunes partitions by hour and files by their statistics."""
    conditions = [
        F.col("exchange_date").between(F.lit(span.start.date()), F.lit(span.end.date()))
        & _hours(span)
        & F.col("timestamp").between(F.lit(span.start), F.lit(span.end))
        for span in times
    ]
    return reduce(or_, conditions) if conditions else F.lit(False)


def _hours(span: Span) -> Column:
    if span.start.date() == span.end.date():
        return F.col("exchange_hour").between(span.start.hour, span.end.hour)
    return F.lit(True)


def place() -> Column:
    """Where a row stood in Kafka, as one number that orders rows of one partition by offset."""
    return F.shiftleft(F.col("partition").cast("bigint"), _OFFSET_BITS) + F.col("offset")


def arrivals(batch: DataFrame, known: DataFrame) -> DataFrame:
    """Every message id of the batch and every one that Gold holds where its trades lie, with its place and a hash.

    A trade that Gold holds stands before all others.
    """
    arrived = batch.select("message_id", place().alias("stays"))
    held = known.select("message_id", F.lit(_HELD).cast("bigint").alias("stays"))
    return arrived.unionByName(held).select(F.xxhash64("message_id").alias("hash"), "*")


def suspects(ids: DataFrame) -> DataFrame:
    """Hashes that more than one row has. Nearly always there are none, and numbers are cheap to count."""
    return ids.groupBy("hash").count().where("count > 1").select("hash")


def repeated(ids: DataFrame) -> DataFrame:
    """Message ids that came more than once, and the place of the row that stays; -1 if Gold holds it already."""
    counted = ids.groupBy("message_id").agg(F.count("*").alias("times"), F.min("stays").alias("stays"))
    return counted.where("times > 1").select("message_id", "stays")


def once(batch: DataFrame, repeats: DataFrame) -> DataFrame:
    """The batch without the rows that `repeats` says must not stay."""
    joined = batch.join(repeats, "message_id", "left")
    return joined.where(F.col("stays").isNull() | (F.col("stays") == place())).drop("stays")


def unified(trades: DataFrame) -> DataFrame:
    """Silver trades as Gold holds them."""
    columns = [name for name in TRADE_COLUMNS if name != "vendor_data"]
    return trades.select(
        *columns,
        F.to_json("vendor_data").alias("vendor_data"),
        batch_time.now().alias("gold_ingestion_timestamp"),
        F.to_date("timestamp").alias("exchange_date"),
        F.hour("timestamp").alias("exchange_hour"),
    )
