"""Kafka offsets as bitmaps: which of them a layer holds, exactly, in a few kilobytes for each 32,768 rows.

Spark condenses the rows; what the bitmaps say is decided here, without Spark.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

WIDTH: Final = 32_768  # offsets in one of Spark's bitmaps
_LAYERS: Final = ("bronze", "silver", "dead")

Place = tuple[str, int]  # topic, partition
Range = tuple[int, int]  # both ends included


def bitmaps(bronze: DataFrame, silver: DataFrame, dead: DataFrame) -> DataFrame:
    """Per topic, partition and bucket of offsets: rows and bitmap of each layer."""
    layers = zip(_LAYERS, (bronze, silver, dead), strict=True)
    rows = [frame.select(F.lit(name).alias("layer"), "topic", "partition", "offset") for name, frame in layers]
    places = reduce(DataFrame.unionByName, rows).withColumn("bucket", F.expr(f"offset div {WIDTH}"))
    counts = [F.count_if(F.col("layer") == name).alias(f"{name}_rows") for name in _LAYERS]
    bits = [
        F.expr(f"bitmap_construct_agg(bitmap_bit_position(offset + 1)) FILTER (WHERE layer = '{name}')").alias(name)
        for name in _LAYERS
    ]
    return places.groupBy("topic", "partition", "bucket").agg(*counts, *bits)


@dataclass(slots=True)
class Bucket:
    """Offsets of `WIDTH` neighbours: each layer's as the bits of a number, and how many rows came twice."""

    bronze: int = 0
    silver: int = 0
    dead: int = 0
    bronze_twice: int = 0
    kept_twice: int = 0  # rows of Silver and dead letters together over the first of each offset
    rows: tuple[int, int, int] = (0, 0, 0)

    @property
    def kept(self) -> int:
        """What became of Bronze's rows."""
        return self.silver | self.dead


@dataclass(slots=True)
class Partition:
    """One partition's buckets by number."""

    buckets: dict[int, Bucket] = field(default_factory=dict)

    def first(self) -> int | None:
        """Bronze's first offset."""
        return next((first for first, _ in self.runs("bronze")), None)

    def last(self, layers: Sequence[str] = ("bronze",)) -> int | None:
        """The last offset of some layers."""
        for number in sorted(self.buckets, reverse=True):
            bits = reduce(int.__or__, (getattr(self.buckets[number], layer) for layer in layers))
            if bits:
                return number * WIDTH + int(bits.bit_length()) - 1
        return None

    def runs(self, layer: str) -> Iterator[Range]:
        """Stretches of offsets that a layer holds, merged."""
        return merged(
            (number * WIDTH + first, number * WIDTH + last)
            for number in sorted(self.buckets)
            for first, last in runs(getattr(self.buckets[number], layer))
        )

    def holes(self, floor: int) -> Iterator[Range]:
        """Offsets from `floor` on that Bronze lacks, though it holds later ones."""
        expected = floor
        for first, last in self.runs("bronze"):
            if first > expected:
                yield expected, first - 1
            expected = max(expected, last + 1)

    def lost(self, floor: int, frontier: int) -> Iterator[Range]:
        """Offsets in [floor, frontier) that Bronze holds and nothing became of."""
        return merged(self._masked(lambda bucket: bucket.bronze & ~bucket.kept, floor, frontier))

    def unknown(self, after: int) -> Iterator[Range]:
        """Offsets beyond `after` that Silver or the dead letters hold: Bronze ends there."""
        return merged(self._masked(lambda bucket: bucket.kept, after + 1, None))

    def repeated(self, floor: int, *, bronze: bool) -> list[int]:
        """Numbers of the buckets, from that of `floor` on, in which an offset came twice: in Bronze, or in the rest."""
        numbers = sorted(number for number in self.buckets if number >= floor // WIDTH)
        twice = "bronze_twice" if bronze else "kept_twice"
        return [number for number in numbers if getattr(self.buckets[number], twice)]

    def waiting(self, frontier: int) -> int:
        """How many Bronze rows are not due yet."""
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


def partitions(rows: Iterable[Mapping[str, Any]]) -> dict[Place, Partition]:
    """The collected rows of `bitmaps`."""
    found: dict[Place, Partition] = {}
    for row in rows:
        bronze, silver, dead = (int.from_bytes(row[layer] or b"", "little") for layer in _LAYERS)
        counts = (row["bronze_rows"], row["silver_rows"], row["dead_rows"])
        found.setdefault((row["topic"], row["partition"]), Partition()).buckets[row["bucket"]] = Bucket(
            bronze, silver, dead,
            counts[0] - bronze.bit_count(),
            counts[1] + counts[2] - (silver | dead).bit_count(),
            counts,
        )  # fmt: skip
    return found


def runs(bits: int) -> Iterator[Range]:
    """Stretches of set bits."""
    base = 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        length = (~bits & (bits + 1)).bit_length() - 1
        yield base + skip, base + skip + length - 1
        bits >>= length
        base += skip + length


def merged(ranges: Iterable[Range]) -> Iterator[Range]:
    """Ranges in order, those that touch as one."""
    held: Range | None = None
    for first, last in ranges:
        if held is not None and first == held[1] + 1:
            held = held[0], last
            continue
        if held is not None:
            yield held
        held = first, last
    if held is not None:
        yield held


def told(ranges: Iterable[Range], most: int = 10) -> str:
    """Ranges as a person reads them: 5, 7 to 9 and 3 more."""
    found = list(ranges)
    shown = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in found[:most])
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return shown + more
