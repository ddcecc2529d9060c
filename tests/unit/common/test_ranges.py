"""Ranges equal the sets of numbers that they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from k2.common.ranges import Range, count, within, without

NUMBERS = st.sets(st.integers(0, 30))


def ranges(numbers: set[int]) -> list[Range]:
    """Return the numbers as ranges."""
    entries: list[Range] = []
    for number in sorted(numbers):
        if entries and entries[-1][1] == number - 1:
            entries[-1] = (entries[-1][0], number)
        else:
            entries.append((number, number))
    return entries


def numbers(entries: list[Range]) -> list[int]:
    """Return the numbers of ranges, with repeats."""
    return sorted(number for first, last in entries for number in range(first, last + 1))


@given(NUMBERS, NUMBERS)
def test_what_is_within_and_without_is_exact(one: set[int], other: set[int]):
    assert numbers(within(ranges(one), ranges(other))) == sorted(one & other)
    assert numbers(without(ranges(one), ranges(other))) == sorted(one - other)
    assert count(ranges(one)) == len(one)


def test_large_ranges_are_never_enumerated():
    assert without([(0, 2**62)], [(5, 9)]) == [(0, 4), (10, 2**62)]
    assert count([(1, 2**62)]) == 2**62
