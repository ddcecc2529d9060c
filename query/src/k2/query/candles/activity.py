"""Bars that close by what was traded instead of by time: which trades end a bar. No table and no SQL here.

Each UTC day of a symbol of an exchange begins with a new bar, and the trades of a day are taken in order of time and
id. With the threshold fixed by the request, a bar depends on the trades of its day alone, wherever a query begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery, TooLarge
from k2.schemas.values import SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BARS: Final = 1_000_000  # of a day
_MAX_THRESHOLD: Final = 10**13
_THRESHOLD: Final = re.compile(r"[0-9]{1,14}(\.[0-9]{1,12})?")


class Measure(StrEnum):
    """What is counted of each trade: one, its quantity, or its price times its quantity."""

    TICK = "tick"
    VOLUME = "volume"
    DOLLAR = "dollar"

    @property
    def scale(self) -> int:
        """The decimal places of its exact values."""
        return {Measure.TICK: 0, Measure.VOLUME: SCALE, Measure.DOLLAR: 2 * SCALE}[self]


class Rule(StrEnum):
    """What of the trades since a bar began is compared with the threshold."""

    SUM = "sum"  # of all
    IMBALANCE = "imbalance"  # buys less sells, whichever is more
    RUN = "run"  # buys or sells, whichever is more


@dataclass(frozen=True, slots=True)
class ActivityBars:
    """A rule: a bar ends with the trade by which the measure reaches the threshold."""

    rule: Rule
    measure: Measure
    threshold: Decimal

    @property
    def units(self) -> int:
        """The threshold as whole units of the measure's last decimal place, rounded up."""
        units: int = ceil(Fraction(self.threshold) * 10**self.measure.scale)
        return units


class BarCounter:
    """Finds where bars end among the trades of one day of one symbol, which come in parts."""

    def __init__(self, bars: ActivityBars) -> None:
        self._rule, self._threshold = bars.rule, bars.units
        self._total = self._buys = self._sells = self._count = 0
        self.ends: list[int] = []  # the number of trades up to each end

    def add(self, values: Iterable[int], buys: Iterable[bool]) -> None:
        """Take the next trades: the measure of each in units, and whether the aggressor bought."""
        number, threshold = self._count, self._threshold
        if self._rule is Rule.SUM:
            total = self._total
            for value in values:
                number += 1
                total += value
                if total >= threshold:
                    self.ends.append(number)
                    total = 0
            self._total = total
        else:
            bought, sold = self._buys, self._sells
            imbalance = self._rule is Rule.IMBALANCE
            for value, buy in zip(values, buys, strict=True):
                number += 1
                bought, sold = (bought + value, sold) if buy else (bought, sold + value)
                if (abs(bought - sold) if imbalance else max(bought, sold)) >= threshold:
                    self.ends.append(number)
                    bought = sold = 0
            self._buys, self._sells = bought, sold
        self._count = number
        check_number(len(self.ends))


def check_number(number: int) -> None:
    """Raise `TooLarge` for too many bars of a day."""
    if number > MAX_BARS:
        raise TooLarge(f"a day has more than {MAX_BARS} such bars; give a larger threshold")


def parse_bars(text: str) -> ActivityBars:
    """Parse a rule, such as tick:1000, dollar:1000000, imbalance:50 or run:volume:10. Raises `BadQuery`."""
    wrong = (
        f"{format_value(text)} does not name bars; write tick:1000, volume:10, dollar:1000000, imbalance:50, "
        "run:50, or imbalance:volume:10, whose threshold is above 0 and at most 10000000000000"
    )
    kind, *rest = text.split(":")
    if not rest or len(rest) > 2 or not _THRESHOLD.fullmatch(rest[-1]):
        raise BadQuery(wrong)
    threshold = Decimal(rest[-1])
    try:
        if kind in set(Measure) and len(rest) == 1:
            bars = ActivityBars(Rule.SUM, Measure(kind), threshold)
        elif kind in {Rule.IMBALANCE, Rule.RUN}:
            bars = ActivityBars(Rule(kind), Measure(rest[0]) if len(rest) == 2 else Measure.TICK, threshold)
        else:
            raise BadQuery(wrong)
    except ValueError:
        raise BadQuery(wrong) from None
    if not 0 < threshold <= _MAX_THRESHOLD or (bars.measure is Measure.TICK and threshold % 1):
        raise BadQuery(wrong)
    return bars
