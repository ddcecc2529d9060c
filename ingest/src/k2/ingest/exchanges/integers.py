"""Decimal numbers of the wire as 64-bit integers times a power of ten, exactly. Pure.

All numbers of a record share one power. It stays the same from record to record as long as that is exact, so that
stored integers of a symbol differ as little as its prices do.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from k2.schemas.values import InexactValue

_LIMIT: Final = 2**63 - 1
_MOST_PLACES: Final = 40
_POWERS: Final = [10**power for power in range(_MOST_PLACES + 1)]
_CACHED: Final = 32_768  # numbers, some 5 MB for all symbols of a process: levels come again and again
_NUMBER: Final = re.compile(r"([0-9]{1,40})(?:\.([0-9]{1,40}))?(?:[eE]([+-]?[0-9]{1,3}))?")


@lru_cache(_CACHED)
def split(text: str) -> tuple[int, int]:
    """Parse a decimal number that is not negative. Return its digits and how many of them are decimals.

    There are no trailing zeros among the decimals, and never fewer than 0: "0.50" is (5, 1), "2E3" is (2000, 0).
    Raises `InexactValue` for any other text, or with more than 40 decimals.
    """
    whole, _, fraction = text.partition(".")
    if whole.isascii() and whole.isdigit() and len(whole) <= _MOST_PLACES:
        if not fraction and len(whole) == len(text):
            return int(whole), 0
        if fraction.isascii() and fraction.isdigit() and len(fraction) <= _MOST_PLACES:
            fraction = fraction.rstrip("0")
            return int(whole + fraction), len(fraction)
    return _with_exponent(text)


def _with_exponent(text: str) -> tuple[int, int]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise InexactValue(f"{text[:60]!r} is not a plain decimal number")
    fraction = (match[2] or "").rstrip("0")
    number, places = int(match[1] + fraction), len(fraction) - int(match[3] or 0)
    if number == 0:
        return 0, 0
    while places > 0 and number % 10 == 0:
        number, places = number // 10, places - 1
    if not -_MOST_PLACES <= places <= _MOST_PLACES:
        raise InexactValue(f"{text[:60]} has more digits than a 64-bit integer")
    return (number, places) if places >= 0 else (number * 10**-places, 0)


class Places:
    """The decimals of one kind of numbers (prices or quantities) of one symbol on one connection."""

    __slots__ = ("_usual",)

    def __init__(self) -> None:
        self._usual = 0  # decimals of the numbers so far that had most, as far as 64 bits allowed

    def integers(self, *texts: str) -> tuple[list[int], int]:
        """Return numbers in units of a common power of ten, and its exponent, which is never above 0.

        Raises `InexactValue` if one is not a plain decimal number, is negative, or does not fit 64 bits.
        """
        numbers = list(map(split, texts))
        needed = max([places for _, places in numbers], default=0)
        usual = max(needed, self._usual)
        values = [number * _POWERS[usual - places] for number, places in numbers]
        if max(values, default=0) <= _LIMIT:
            self._usual = usual
            return values, -usual
        values = [number * _POWERS[needed - places] for number, places in numbers]
        if max(values) > _LIMIT:
            raise InexactValue(f"{', '.join(text[:60] for text in texts)} do not fit 64-bit integers")
        return values, -needed

    def scaled_integers(self, values: Sequence[int], scale: int) -> tuple[list[int], int]:
        """Return numbers that are integers in units of 10**-`scale` in those of a common power, and its exponent.

        Raises `InexactValue` if one does not fit 64 bits.
        """
        places = min(self._usual, scale)
        unit = _POWERS[scale - places]
        while places < scale and any(value % unit for value in values):
            places += 1
            unit = _POWERS[scale - places]
        if max(values, default=0) // unit > _LIMIT:
            raise InexactValue(f"{len(values)} numbers do not fit 64-bit integers of one power of ten")
        return [value // unit for value in values], -places
