"""Results of a benchmark: figures with units, and goals with the reason why one was missed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

K2: Final = "K2"


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one engine, with a value per round."""

    engine: str
    quantity: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    @property
    def shown(self) -> str:
        """The median, without the unit."""
        return number(self.median)

    @property
    def spread(self) -> str:
        """The lowest and the highest round; empty if there was only one."""
        return f"{number(min(self.values))} to {number(max(self.values))}" if len(self.values) > 1 else ""


@dataclass(frozen=True, slots=True)
class Goal:
    """A target, the measured value, and the reason if the target was missed."""

    target: str
    measured: str
    reached: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of figures with a row per engine and a column per setting."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(slots=True)
class Section:
    """The results of one benchmark."""

    name: str
    title: str
    method: Sequence[str] = ()
    figures: list[Figure] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    ratios: list[tuple[str, float]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: str = ""
    seconds: float = 0.0


def number(value: float) -> str:
    """Format a number with three significant digits and thousands separators."""
    if math.isnan(value):
        return "none"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the `share` quantile (0 to 1) of the values; nan if there are none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def order(engines: Sequence[str], round_: int) -> list[str]:
    """Return the engines in their order of measurement, reversed in every second round so that none is always first."""
    return list(engines) if round_ % 2 == 0 else list(reversed(engines))
