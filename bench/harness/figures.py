"""What a measurement leaves behind: figures with units, goals that are reached or not, and why not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

K2: Final = "K2"


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one contestant, once a round."""

    who: str
    what: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return median(self.values)

    @property
    def shown(self) -> str:
        """The median, without the unit."""
        return number(self.median)

    @property
    def spread(self) -> str:
        """Lowest and highest round; empty if there was only one."""
        return f"{number(min(self.values))} to {number(max(self.values))}" if len(self.values) > 1 else ""


@dataclass(frozen=True, slots=True)
class Goal:
    """What was wanted, what was found, and, where it falls short, why."""

    wanted: str
    found: str
    reached: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Figures that depend on two things: a row for each of one, a column for each of the other."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(slots=True)
class Section:
    """One part of the benchmark."""

    letter: str
    title: str
    method: Sequence[str] = ()
    figures: list[Figure] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    ratios: list[tuple[str, float]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: str = ""
    took: float = 0.0


def number(value: float) -> str:
    """Three digits that matter, and thousands set apart."""
    if math.isnan(value):
        return "none"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; nan for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def order(contestants: Sequence[str], turn: int) -> list[str]:
    """Who measures in which order: turned round from one round to the next, so that none always goes first."""
    return list(contestants) if turn % 2 == 0 else list(reversed(contestants))
