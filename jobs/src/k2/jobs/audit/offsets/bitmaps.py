"""Kafka offsets of the layers as bitmaps: exact sets, in a few kilobytes for each 32,768 offsets.

Spark aggregates the rows into bitmaps; the comparison runs here, without Spark.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range, without

WIDTH: Final = 32_768  # offsets in one of Spark's bitmaps
_LAYERS: Final = ("bronze", "silver", "dead_letters")

TopicPartition = tuple[str, int]  # topic and partition number


def bitmaps(bronze: DataFrame, silver: DataFrame, dead_letters: DataFrame) -> DataFrame:
    """Return row counts and offset bitmaps of each layer, by topic, partition and bucket of offsets."""
    layers = zip(_LAYERS, (bronze, silver, dead_letters), strict=True)
    rows = [frame.select(F.lit(name).alias("layer"), "topic", "partition", "offset") for name, frame in layers]
    buckets = reduce(DataFrame.unionByName, rows).withColumn("bucket", F.expr(f"offset div {WIDTH}"))
    counts = [F.count_if(F.col("layer") == name).alias(f"{name}_rows") for name in _LAYERS]
    bits = [
        F.expr(f"bitmap_construct_agg(bitmap_bit_position(offset + 1)) FILTER (WHERE layer = '{name}')").alias(name)
        for name in _LAYERS
    ]
    return buckets.groupBy("topic", "partition", "bucket").agg(*counts, *bits)


@dataclass(slots=True)
class Bucket:
    """A bucket of `WIDTH` consecutive offsets: each layer's offsets as the bits of an integer, and duplicate counts."""

    bronze: int = 0
    silver: int = 0
    dead_letters: int = 0
    bronze_duplicates: int = 0
    processed_duplicates: int = 0  # rows of Silver and dead letters together beyond the first of each offset
    rows: tuple[int, int, int] = (0, 0, 0)

    @property
    def processed(self) -> int:
        """The offsets that are in Silver or the dead letters, as bits."""
        return self.silver | self.dead_letters


@dataclass(slots=True)
class Partition:
    """The buckets of one partition, by number."""

    buckets: dict[int, Bucket] = field(default_factory=dict)

    def first(self) -> int | None:
        """Return the first offset in Bronze; None if there is none."""
        return next((first for first, _ in self.runs("bronze")), None)

    def last(self, layers: Sequence[str] = ("bronze",)) -> int | None:
        """Return the last offset in some layers; None if there is none."""
        for number in sorted(self.buckets, reverse=True):
            bits = reduce(int.__or__, (getattr(self.buckets[number], layer) for layer in layers))
            if bits:
                return number * WIDTH + int(bits.bit_length()) - 1
        return None

    def extent(self) -> Range | None:
        """Return the first and the last offset in Bronze; None if there is none."""
        first, last = self.first(), self.last()
        return None if first is None or last is None else (first, last)

    def runs(self, layer: str) -> Iterator[Range]:
        """Yield the merged ranges of offsets in a layer."""
        return merge_adjacent(
            (number * WIDTH + first, number * WIDTH + last)
            for number in sorted(self.buckets)
            for first, last in runs(getattr(self.buckets[number], layer))
        )

    def gaps(self, floor: int, last: int = -1) -> Iterator[Range]:
        """Yield the ranges of offsets from `floor` on that are missing in Bronze before later ones, or up to `last`."""
        expected = floor
        for first, last_of_run in self.runs("bronze"):
            if first > expected:
                yield expected, first - 1
            expected = max(expected, last_of_run + 1)
        if expected <= last:
            yield expected, last

    def unprocessed(self, first: int, last: int) -> Iterator[Range]:
        """Yield the parts of a range of offsets that are neither in Silver nor in the dead letters."""
        processed = list(self._masked(lambda bucket: bucket.processed, first, last + 1))
        yield from without([(first, last)], processed)

    def missing(self, floor: int, frontier: int) -> Iterator[Range]:
        """Yield the ranges in [floor, frontier) that are in Bronze but neither in Silver nor the dead letters."""
        return merge_adjacent(self._masked(lambda bucket: bucket.bronze & ~bucket.processed, floor, frontier))

    def orphans(self, after: int) -> Iterator[Range]:
        """Yield the ranges beyond `after`, where Bronze ends, that are in Silver or the dead letters."""
        return merge_adjacent(self._masked(lambda bucket: bucket.processed, after + 1, None))

    def duplicate_buckets(self, floor: int, *, bronze: bool) -> list[int]:
        """Return the buckets from `floor` on with duplicate offsets: in Bronze, or in Silver and dead letters."""
        numbers = sorted(number for number in self.buckets if number >= floor // WIDTH)
        count = "bronze_duplicates" if bronze else "processed_duplicates"
        return [number for number in numbers if getattr(self.buckets[number], count)]

    def pending(self, frontier: int) -> int:
        """Return the number of Bronze rows from `frontier` on, which are not due yet."""
        return sum(last - first + 1 for first, last in self._masked(lambda bucket: bucket.bronze, frontier, None))

    def _masked(self, of: Callable[[Bucket], int], floor: int, frontier: int | None) -> Iterator[Range]:
        for number in sorted(self.buckets):
            base = number * WIDTH
            bits = of(self.buckets[number])
            if floor > base:
                bits = bits >> (floor - base) << (floor - base)
            if frontier is not None:
                bits &= (1 << max(0, frontier - base)) - 1
            yield from ((base + first, base + last) for first, last in runs(bits))


def partitions(rows: Iterable[Mapping[str, Any]]) -> dict[TopicPartition, Partition]:
    """Return the partitions in the collected rows of `bitmaps`."""
    result: dict[TopicPartition, Partition] = {}
    for row in rows:
        bronze, silver, dead_letters = (int.from_bytes(row[layer] or b"", "little") for layer in _LAYERS)
        counts = (row["bronze_rows"], row["silver_rows"], row["dead_letters_rows"])
        result.setdefault((row["topic"], row["partition"]), Partition()).buckets[row["bucket"]] = Bucket(
            bronze, silver, dead_letters,
            counts[0] - bronze.bit_count(),
            counts[1] + counts[2] - (silver | dead_letters).bit_count(),
            counts,
        )  # fmt: skip
    return result


def runs(bits: int) -> Iterator[Range]:
    """Yield the ranges of set bits."""
    base = 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        length = (~bits & (bits + 1)).bit_length() - 1
        yield base + skip, base + skip + length - 1
        bits >>= length
        base += skip + length


def merge_adjacent(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield sorted ranges with adjacent ones merged."""
    current: Range | None = None
    for first, last in ranges:
        if current is not None and first == current[1] + 1:
            current = current[0], last
            continue
        if current is not None:
            yield current
        current = first, last
    if current is not None:
        yield current


def format_ranges(ranges: Iterable[Range], limit: int = 10) -> str:
    """Return ranges as text, such as "5, 7 to 9 and 3 more"; empty without ranges."""
    items = list(ranges)
    shown = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in items[:limit])
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return shown + more
