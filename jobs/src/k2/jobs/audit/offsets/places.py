"""Which symbols and hours offsets belong to, as another layer's rows at the same offsets tell."""

from collections.abc import Iterable, Sequence
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range, without
from k2.jobs.audit.offsets import bitmaps
from k2.jobs.audit.scope import hour_of
from k2.jobs.spark.local_frames import local_frame

Place = tuple[str, int | None]  # a symbol, and the start of an hour in UTC microseconds; "" and None: not known

NOWHERE: Final[Place] = ("", None)
_MOST: Final = 10_000  # offsets of a finding that are looked up
_MOST_PLACES: Final = 100


def by_place(rows: DataFrame, key: bitmaps.TopicPartition, ranges: Iterable[Range]) -> dict[Place, list[Range]]:
    """Return ranges of offsets of a partition by the symbol and hour of the rows at them.

    `rows` have `symbol` and `at` (a time) beside their position. Offsets without a row are `NOWHERE`.
    """
    listed = list(ranges)
    limits = local_frame(
        rows.sparkSession, [{"first": first, "last": last} for first, last in listed], "first bigint, last bigint"
    )
    in_partition = rows.where((F.col("topic") == key[0]) & (F.col("partition") == key[1]) & F.col("symbol").isNotNull())
    inside = in_partition.join(F.broadcast(limits), F.col("offset").between(F.col("first"), F.col("last")))
    columns = inside.select("offset", "symbol", F.unix_micros("at").alias("at")).distinct()
    return grouped(listed, [tuple(row) for row in columns.limit(_MOST).collect()])


def grouped(ranges: Sequence[Range], rows: Iterable[tuple[int, str, int]]) -> dict[Place, list[Range]]:
    """Return ranges of offsets by place, for rows of offset, symbol and time in UTC microseconds."""
    offsets: dict[Place, set[int]] = {}
    for offset, symbol, at in rows:
        offsets.setdefault((symbol, hour_of(at)), set()).add(offset)
    places = dict(sorted(offsets.items())[:_MOST_PLACES])
    result = {place: list(_merged(of_place)) for place, of_place in places.items()}
    elsewhere = list(without(ranges, list(_merged({one for of_place in places.values() for one in of_place}))))
    return result | ({NOWHERE: elsewhere} if elsewhere else {})


def _merged(offsets: Iterable[int]) -> Iterable[Range]:
    return bitmaps.merge_adjacent((offset, offset) for offset in sorted(offsets))
