"""Exact value conversions: decimals as scaled integers, durations as seconds, times as microseconds.

Prices and quantities are integers in units of 10**-8, the scale of decimal(18,8). Nothing is rounded: a number that
does not fit exactly raises `InexactValue`, and its trade is dead-lettered.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, DecimalException

SCALE = 8
UNIT = 10**SCALE
MAX_SCALED = 10**18 - 1  # decimal(18, 8)

_NUMBER = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_EXACT = Context(prec=100)
_DURATION = re.compile(r"([1-9][0-9]{0,8})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InexactValue(ValueError):
    """A price or quantity that is not positive or does not fit decimal(18,8) exactly."""


def scaled(text: str) -> int:
    """Parse a decimal number and return it in units of 10**-8.

    Raises `InexactValue` if `text` is not a positive number with at most 8 decimals and 10 whole digits.
    """
    digits = text[:-9] + text[-8:]
    # Exactly eight decimals is what most exchanges send; int() alone would let "1_0" and other scripts' digits in.
    if text[-9:-8] == "." and digits.isascii() and digits.isdigit():
        value = int(digits)
        if 0 < value <= MAX_SCALED:
            return value
    return _parse_scaled(text)


def _parse_scaled(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InexactValue(f"{text[:60]!r} is not a plain decimal number")
    return scaled_decimal(Decimal(text))


def scaled_decimal(number: Decimal) -> int:
    """Return `number` in units of 10**-8. Raises `InexactValue` as `scaled` does."""
    try:
        shifted = number.scaleb(SCALE, _EXACT)
        exact = shifted == shifted.to_integral_value()
    except DecimalException as error:  # invalid, or beyond what even 100 digits hold
        raise InexactValue(f"{str(number)[:60]} is out of range for decimal(18,8)") from error
    if not number.is_finite() or not exact:
        raise InexactValue(f"{str(number)[:60]} does not fit decimal(18,8) without rounding")
    if not 0 < shifted <= MAX_SCALED:
        raise InexactValue(f"{str(number)[:60]} is not within 0 < value < 10**10")
    return int(shifted)


def decimal(value: int) -> Decimal:
    """Return the exact decimal of a scaled integer: 6183763000000 is 61837.63000000."""
    return Decimal(value).scaleb(-SCALE)


def format_decimal(value: int) -> str:
    """Format a scaled integer with eight decimals: 6183763000000 is "61837.63000000"."""
    whole, fraction = divmod(value, UNIT)
    return f"{whole}.{fraction:08d}"


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
