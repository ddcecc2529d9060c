"""Proof that ids are absent from an exchange's history. Pure: the caller passes a monotonic clock.

A single answer proves nothing: histories lag, and caches return old pages. An id is absent only if two answers, ten
minutes apart, have both of its neighbours and not the id, and the newer one is the last answer about it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from k2.ingest.sequencing.tracker import IdRange

APART: Final = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the exchange: what was requested, when it came (UTC microseconds), and its body."""

    request: str
    received: int
    body: bytes


@dataclass(slots=True)
class Absence:
    """The absences that were observed of one gap's ids: each range with its first time and answer."""

    _first: list[tuple[IdRange, float, Answer]] = field(default_factory=list)

    def observe(self, absent: Sequence[tuple[IdRange, Answer]], now: float) -> dict[IdRange, tuple[Answer, Answer]]:
        """Take the absences of the newest answers. Return those that are proved, with both answers.

        An earlier observation that the newest answers do not repeat counts no more: the id may have come and gone.
        """
        observed: list[tuple[IdRange, float, Answer]] = []
        proved: dict[IdRange, tuple[Answer, Answer]] = {}
        for ids, answer in absent:
            covering = [entry for entry in self._first if contains(entry[0], ids)]
            _, at, first = min(covering, key=lambda entry: entry[1], default=(ids, now, answer))
            observed.append((ids, at, first))
            if now - at >= APART:
                proved[ids] = (first, answer)
        self._first = observed
        return proved

    def due(self, now: float) -> float | None:
        """Return the seconds until the oldest observation that is not proved yet can be; None if there is none."""
        return min((at + APART - now for _, at, _ in self._first if at + APART > now), default=None)


def contains(outer: IdRange, inner: IdRange) -> bool:
    """Return whether a range contains another."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def between(rows: Iterable[IdRange]) -> list[IdRange]:
    """Return the ids that lie between two neighbouring rows of one page, as ranges."""
    ordered = sorted(rows)
    return [(before[1] + 1, after[0] - 1) for before, after in pairwise(ordered) if after[0] > before[1] + 1]
