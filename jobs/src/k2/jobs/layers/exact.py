"""Exact arithmetic on prices and quantities: a result has every digit, or it is null.

Spark rounds products of wide decimals unless `spark.sql.decimalOperations.allowPrecisionLoss` is false, which
`k2.jobs.spark.session` sets, and raises when a result does not fit. The functions named try_* return null instead.
"""

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.schemas.tables.spec import NOTIONAL, PRICE
from k2.schemas.values import SCALE, UNIT

_ULP: Final = f"1e-{SCALE}"  # the last place of a price


def product(price: Column, quantity: Column) -> Column:
    """Return price times quantity as decimal(38,24); null if it does not fit."""
    return F.try_multiply(price.cast(PRICE), quantity.cast(PRICE)).cast(NOTIONAL)


def total(values: Column) -> Column:
    """Return the sum of a group; null if it does not fit 38 digits, or if a value is null: it did not fit itself."""
    return F.when(F.count(values) == F.count(F.lit(1)), F.try_sum(values))


def ratio(notional: Column, volume: Column) -> Column:
    """Return a notional over a volume as decimal(38,12), rounded half up; null if either is null or the volume is 0.

    Spark's division rounds more than once and has 14 digits before the point where 26 are needed. So this is a long
    division in two steps whose quotients are exact, and the remainder decides how to round.
    """
    millions = F.try_multiply(volume, _price(UNIT))  # the volume, 10**12 times; null if that exceeds every notional
    rest = F.coalesce(F.try_mod(notional, millions), notional)
    high = F.coalesce(F.try_divide(F.try_subtract(notional, rest), millions), F.lit(0)).cast("decimal(14,0)")
    step = product(volume, _price(_ULP))
    remainder = F.try_mod(rest, step)
    low = F.try_divide(F.try_subtract(rest, remainder), volume).cast(f"decimal({2 * SCALE},{SCALE})")
    rounded_up = F.when(remainder >= F.try_subtract(step, remainder), _price(_ULP)).otherwise(_price(0))
    truncated = F.try_add(F.try_multiply(high, F.lit(UNIT).cast("decimal(13,0)")), low)
    return F.try_add(truncated, rounded_up).cast(PRICE)


def _price(number: int | str) -> Column:
    return F.lit(number).cast(PRICE)
