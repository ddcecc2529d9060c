"""Offsets of the layers as bitmaps: gaps, missing rows, orphans and duplicates, to the exact offset."""

from k2.jobs.audit.offsets import bitmaps
from k2.jobs.audit.offsets.bitmaps import WIDTH, Bucket, Partition

TOPIC = "trades"


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


def of_bronze(*numbers: int) -> Partition:
    """Return a partition with these offsets in Bronze."""
    partition = Partition()
    for number in numbers:
        bucket = partition.buckets.setdefault(number // WIDTH, Bucket())
        bucket.bronze |= bits(number % WIDTH)
    return partition


def row(bucket: int, **layers: tuple[int, int]) -> dict[str, object]:
    """Return a collected row of `bitmaps`; each layer is given as its bits and its number of rows."""
    values: dict[str, object] = {"topic": TOPIC, "partition": 3, "bucket": bucket}
    for name in ("bronze", "silver", "dead_letters"):
        layer, rows = layers.get(name, (0, 0))
        values |= {name: layer.to_bytes(WIDTH // 8, "little") if layer else None, f"{name}_rows": rows}
    return values


def test_a_gap_of_exactly_one_offset_is_detected():
    assert list(of_bronze(0, 1, 3).gaps(0)) == [(2, 2)]
    assert list(of_bronze(1).gaps(0)) == [(0, 0)]
    assert list(of_bronze(WIDTH - 2, WIDTH).gaps(WIDTH - 2)) == [(WIDTH - 1, WIDTH - 1)]


def test_offsets_that_commits_name_beyond_the_last_row_are_missing_too():
    assert list(of_bronze(0, 1, 3).gaps(0, 3)) == [(2, 2)]
    assert list(of_bronze(0, 1, 3).gaps(0, 5)) == [(2, 2), (4, 5)]
    assert list(of_bronze().gaps(2, 4)) == [(2, 4)]
    assert (of_bronze(3, 7).extent(), of_bronze().extent()) == ((3, 7), None)


def test_what_silver_has_processed_is_known_without_bronze():
    partition = Partition({0: Bucket(silver=bits(1, 2), dead_letters=bits(4))})
    assert list(partition.unprocessed(0, 6)) == [(0, 0), (3, 3), (5, 6)]
    assert list(partition.unprocessed(1, 2)) == []
    assert list(Partition().unprocessed(7, 9)) == [(7, 9)]


def test_every_gap_is_detected_with_both_of_its_ends():
    assert list(of_bronze(5, 6, 10, 2 * WIDTH).gaps(3)) == [(3, 4), (7, 9), (11, 2 * WIDTH - 1)]
    assert list(of_bronze(5, 6, 7).gaps(5)) == []
    assert list(of_bronze(5, 8).gaps(7)) == [(7, 7)]
    assert list(of_bronze(5, 8).gaps(9)) == []
    assert list(of_bronze().gaps(0)) == []
    # A floor within a range: what precedes it is not due.
    assert list(of_bronze(1, 2, 9).gaps(2)) == [(3, 8)]


def test_consecutive_offsets_of_neighbouring_buckets_are_one_range():
    assert list(of_bronze(WIDTH, WIDTH - 1, 7, 8).runs("bronze")) == [(7, 8), (WIDTH - 1, WIDTH)]
    assert list(bitmaps.merge_adjacent([(1, 2), (3, 3), (5, 6), (7, 9)])) == [(1, 3), (5, 9)]
    assert list(bitmaps.merge_adjacent([(1, 2), (4, 4)])) == [(1, 2), (4, 4)]
    assert list(bitmaps.merge_adjacent([])) == []


def test_the_ranges_of_set_bits():
    assert list(bitmaps.runs(0)) == []
    assert list(bitmaps.runs(0b1)) == [(0, 0)]
    assert list(bitmaps.runs(0b1011_0110)) == [(1, 2), (4, 5), (7, 7)]


def test_the_first_and_the_last_offset():
    partition = of_bronze(2 * WIDTH + 1, WIDTH + 5)
    partition.buckets[3] = Bucket(silver=bits(4), dead_letters=bits(2))
    assert (partition.first(), partition.last()) == (WIDTH + 5, 2 * WIDTH + 1)
    assert partition.last(("silver", "dead_letters")) == 3 * WIDTH + 4
    assert partition.last(("dead_letters",)) == 3 * WIDTH + 2
    assert (Partition().first(), Partition().last()) == (None, None)


def test_missing_is_what_bronze_holds_and_neither_silver_nor_the_dead_letters():
    partition = Partition({0: Bucket(bronze=bits(0, 1, 2, 3, 4, 5), silver=bits(0, 3), dead_letters=bits(4))})
    assert list(partition.missing(0, 6)) == [(1, 2), (5, 5)]
    assert list(partition.missing(2, 5)) == [(2, 2)]
    assert list(partition.missing(1, 2)) == [(1, 1)]
    assert list(partition.missing(0, 0)) == []


def test_missing_offsets_of_later_buckets_end_at_the_frontier():
    partition = of_bronze(WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH)
    assert list(partition.missing(0, WIDTH + 1)) == [(WIDTH - 1, WIDTH)]
    assert list(partition.missing(WIDTH, 2 * WIDTH)) == [(WIDTH, WIDTH + 1)]
    assert list(partition.missing(WIDTH + 1, 2 * WIDTH + 1)) == [(WIDTH + 1, WIDTH + 1), (2 * WIDTH, 2 * WIDTH)]


def test_orphans_are_the_processed_offsets_beyond_the_end_of_bronze():
    partition = Partition({0: Bucket(silver=bits(4, 5), dead_letters=bits(6, 9)), 1: Bucket(silver=bits(0))})
    assert list(partition.orphans(4)) == [(5, 6), (9, 9), (WIDTH, WIDTH)]
    assert list(partition.orphans(9)) == [(WIDTH, WIDTH)]
    assert list(partition.orphans(WIDTH)) == []


def test_rows_from_the_frontier_on_are_pending():
    assert of_bronze(1, 2, 4, 5, WIDTH).pending(2) == 4
    assert of_bronze(1, 2, 4, 5, WIDTH).pending(WIDTH) == 1
    assert of_bronze(1).pending(2) == 0


def test_duplicates_are_rows_beyond_the_first_of_an_offset():
    rows = [
        row(2, bronze=(bits(0, 1), 3), silver=(bits(0), 1), dead_letters=(bits(1), 1)),
        row(1, bronze=(bits(0), 1), silver=(bits(0), 1), dead_letters=(bits(0), 1)),
        row(0, bronze=(bits(0), 2), silver=(bits(0), 2)),
        row(3, dead_letters=(bits(0), 3)),
    ]
    [(key, partition)] = bitmaps.partitions(rows).items()
    assert key == (TOPIC, 3)
    assert partition.buckets[2] == Bucket(bits(0, 1), bits(0), bits(1), 1, 0, (3, 1, 1))
    assert partition.buckets[1] == Bucket(bits(0), bits(0), bits(0), 0, 1, (1, 1, 1))
    assert partition.buckets[0] == Bucket(bits(0), bits(0), 0, 1, 1, (2, 2, 0))
    assert partition.buckets[3] == Bucket(0, 0, bits(0), 0, 2, (0, 0, 3))
    assert partition.duplicate_buckets(0, bronze=True) == [0, 2]
    assert partition.duplicate_buckets(WIDTH - 1, bronze=False) == [0, 1, 3]
    assert partition.duplicate_buckets(WIDTH, bronze=True) == [2]
    assert partition.duplicate_buckets(2 * WIDTH, bronze=True) == [2]


def test_a_new_bucket_is_empty():
    assert Bucket() == Bucket(0, 0, 0, 0, 0, (0, 0, 0))


def test_ranges_as_text():
    assert bitmaps.format_ranges([]) == ""
    assert bitmaps.format_ranges([(5, 5), (7, 9)]) == "5, 7 to 9"
    assert bitmaps.format_ranges([(5, 5), (7, 9)], limit=2) == "5, 7 to 9"
    assert bitmaps.format_ranges([(5, 5), (7, 9), (11, 11), (13, 13)], limit=2) == "5, 7 to 9 and 2 more"
    assert bitmaps.format_ranges((number, number) for number in range(0, 22, 2)).endswith("16, 18 and 1 more")
