"""Exact value conversions: decimals as scaled integers, durations as seconds, times as microseconds.

Prices and quantities are integers in units of 10**-12, the scale of decimal(38,12). Nothing is rounded: a number that
does not fit exactly raises `InexactValue`, and its record is dead-lettered.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, DecimalException
from functools import lru_cache
from typing import Final

PRECISION: Final = 38
SCALE: Final = 12
UNIT: Final = 10**SCALE
MAX_SCALED: Final = 10**PRECISION - 1

_NUMBER = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_EXACT = Context(prec=100)
_DURATION = re.compile(r"([1-9][0-9]{0,8})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FACTORS: Final[tuple[int, ...]] = tuple(10 ** (SCALE - places) for places in range(SCALE + 1))
_MAX_DIGITS: Final = PRECISION - SCALE  # before the point


class InexactValue(ValueError):
    """A price or quantity that is not positive or does not fit decimal(38,12) exactly."""


@lru_cache(maxsize=1024)  # prices and quantities repeat: of recorded ones four fifths are among the last
def scaled(text: str) -> int:
    """Parse a decimal number and return it in units of 10**-12.

    Raises `InexactValue` if `text` is not a positive number with at most 12 decimals and 26 integer digits.
    """
    whole, _, fraction = text.partition(".")
    digits, places = whole + fraction, len(fraction)
    # What exchanges send; int() alone would let "1_0" and other scripts' digits in.
    if digits.isascii() and digits.isdigit() and places <= SCALE and 0 < len(whole) <= _MAX_DIGITS:
        value: int = int(digits) * _FACTORS[places]
        if value > 0 and (fraction or not text.endswith(".")):
            return value
    return _parse_scaled(text)


def _parse_scaled(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InexactValue(f"{text[:60]!r} is not a plain decimal number")
    return _shift(Decimal(text), text[:60])


def scaled_decimal(number: Decimal) -> int:
    """Return `number` in units of 10**-12. Raises `InexactValue` as `scaled` does."""
    return _shift(number, str(number)[:60])


def _shift(number: Decimal, text: str) -> int:
    """Return `number` in units of 10**-12; errors call it `text`."""
    try:
        shifted = number.scaleb(SCALE, _EXACT)
        exact = shifted == shifted.to_integral_value()
    except DecimalException as error:  # invalid, or beyond what even 100 digits hold
        raise InexactValue(f"{text} is out of range for decimal(38,12)") from error
    if not number.is_finite() or not exact:
        raise InexactValue(f"{text} does not fit decimal(38,12) without rounding")
    if not 0 < shifted <= MAX_SCALED:
        raise InexactValue(f"{text} is not within 0 < value < 10**26")
    return int(shifted)


def decimal(value: int) -> Decimal:
    """Return the exact decimal of a scaled integer: 61837630000000000 is 61837.630000000000."""
    return Decimal(value).scaleb(-SCALE, _EXACT)


def format_decimal(value: int) -> str:
    """Format a scaled integer without trailing zeros: 61837630000000000 is "61837.63"."""
    whole, fraction = divmod(value, UNIT)
    return f"{whole}.{fraction:012d}".rstrip("0").rstrip(".")


def fixed_decimal(value: int, places: int) -> str:
    """Format a scaled integer with a fixed number of decimals, at most 12; further ones are cut off."""
    whole, fraction = divmod(value, UNIT)
    return f"{whole}.{fraction:012d}"[: places - SCALE or None]


def seconds(duration: str) -> float:
    """Parse a duration such as 10s, 500ms, 1h or 7d and return seconds. Raises ValueError for anything else."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{duration[:40]!r} is not a duration; write a whole number and ms, s, m, h or d, such as 10s")
    return int(match[1]) * _SECONDS[match[2]]


def to_micros(time: datetime) -> int:
    """Return an aware datetime as UTC microseconds since 1970, exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros_utc: int) -> datetime:
    """Return the aware datetime of UTC microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros_utc)


def duration_text(total: float) -> str:
    """Format seconds in the largest fitting unit: 9s, 4m, 3h, 12d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if total >= 2 * size:
            return f"{int(total // size)}{unit}"
    return f"{int(total)}s"
