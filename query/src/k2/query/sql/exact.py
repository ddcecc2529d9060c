"""Exact arithmetic of prices and quantities as SQL for DuckDB: products, sums and averages, or null where none fits.

DuckDB multiplies two decimal(38,12) as decimal(38,24), exactly, and raises an error where the product or a sum exceeds
its 38 digits. Here both are null instead. Values must not be negative.
"""

from decimal import Decimal
from typing import Final

from k2.schemas.values import PRECISION, SCALE

# How many values a `total` may add up: its summands stay so small that no sum of so many exceeds 38 digits.
MAX_TRADES: Final = 10**9  # of one bar
MAX_PARTS: Final = 10**5  # minutes of one bar, which is a month at most, or seconds of one of a day

_UNIT: Final = 10**SCALE
_POWERS: Final = range(-SCALE, 19 - SCALE)  # what a decimal(19,12) holds


def scaled(number: str, exponent: str) -> str:
    """Return the SQL of a BIGINT times a power of ten as decimal(38,12); null if it does not fit."""
    # A product of two decimals of 19 digits fits 38, so DuckDB checks nothing. Larger powers are rare.
    powers = " ".join(f"WHEN {power} THEN {_power_of_ten(power)}::DECIMAL(19,{SCALE})" for power in _POWERS)
    large = f"try_cast(concat({number}, repeat('0', {exponent})) AS DECIMAL({PRECISION},{SCALE}))"
    return (
        f"CASE WHEN {exponent} BETWEEN {_POWERS[0]} AND {_POWERS[-1]} "
        f"THEN {number}::DECIMAL(19,0) * (CASE {exponent} {powers} END) WHEN {exponent} > {_POWERS[-1]} "
        f"AND {number} IS NOT NULL THEN {large} END"
    )


def _power_of_ten(exponent: int) -> str:
    return f"{Decimal(10) ** exponent:f}"


def product(price: str, quantity: str) -> str:
    """Return the SQL of price times quantity as decimal(38,24); null from 10**14 on."""
    return f"TRY({price} * {quantity})"


def sums(name: str, value: str, scale: int, most: int) -> str:
    """Return the aggregates that `total` reads, as a part of a SELECT list. No sum of up to `most` values fails.

    Splitting a decimal takes ten times as long as adding it, so only large values are split into whole and fraction.
    """
    large = f"{value} >= {10 ** (PRECISION - scale) // most}"
    return (
        f"sum(CASE WHEN {large} THEN trunc({value}) ELSE 0 END) AS {name}_whole, "
        f"sum(CASE WHEN {large} THEN {value} - trunc({value}) ELSE {value} END) AS {name}_rest, "
        f"count({value}) = count(*) AS {name}_exact"
    )


def total(name: str, scale: int) -> str:
    """Return the SQL of a sum of `sums` as decimal(38,`scale`); null beyond 38 digits, or if one of the values is."""
    whole = f"{name}_whole + trunc({name}_rest)"
    fits = f"{name}_exact AND {whole} < {10 ** (PRECISION - scale)}"
    return f"CASE WHEN {fits} THEN {name}_whole::DECIMAL({PRECISION},{scale}) + {name}_rest END"


def vwap(notional: str, volume: str) -> str:
    """Return the SQL of notional over volume as decimal(38,12), rounded half up; null if one is null."""
    traded = units(volume)
    # Half of the divisor is added first: both are below 10**38, and a HUGEINT holds 1.7 * 10**38.
    return from_units(f"(({units(notional)} + {traded} // 2) // {traded})")


def units(decimal: str) -> str:
    """Return the SQL of a decimal as a whole number of its last places, read from its text: 1.50 is 150."""
    return f"replace({decimal}::VARCHAR, '.', '')::HUGEINT"


def from_units(number: str) -> str:
    """Return the SQL of a whole number of 10**-12 as decimal(38,12)."""
    last_place = f"0.{1:0{SCALE}d}::DECIMAL({SCALE},{SCALE})"
    fraction = f"({number} % {_UNIT})::DECIMAL({SCALE},0) * {last_place}"
    return f"(({number} // {_UNIT})::DECIMAL({PRECISION},{SCALE}) + {fraction})::DECIMAL({PRECISION},{SCALE})"
