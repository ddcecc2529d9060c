"""Ranges of whole numbers, both ends inclusive."""

from collections.abc import Iterable, Sequence

Range = tuple[int, int]


def within(ranges: Iterable[Range], outer: Sequence[Range]) -> list[Range]:
    """Return the parts of `ranges` that are in `outer`."""
    parts = [(max(a, low), min(b, high)) for a, b in ranges for low, high in outer]
    return [(a, b) for a, b in parts if a <= b]


def without(ranges: Sequence[Range], removed: Iterable[Range]) -> list[Range]:
    """Return the parts of `ranges` that are in none of `removed`."""
    left = list(ranges)
    for first, last in removed:
        left = [
            part
            for low, high in left
            for part in ((low, min(high, first - 1)), (max(low, last + 1), high))
            if part[0] <= part[1]
        ]
    return left


def count(ranges: Iterable[Range]) -> int:
    """Return how many numbers are in disjoint ranges."""
    return sum(last - first + 1 for first, last in ranges)
