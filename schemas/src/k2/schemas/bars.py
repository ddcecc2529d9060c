"""Which hours' bars are affected by a range of Gold's history.

A commit of Gold lists in its summary the hours of its trades; a commit of the bars names the Gold snapshot that they
equal. Bars of an hour are a function of that hour's trades alone, so between two snapshots they differ at most in the
hours that the commits between the two have changed.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

from k2.schemas.snapshots import DELETED, EXCHANGE, HOURS

_MAX_RANGES: Final = 64


class Commit(Protocol):
    """One snapshot of a table, independent of the engine that read it."""

    @property
    def id(self) -> int:
        """Its id."""
        ...

    @property
    def parent(self) -> int | None:
        """Its parent's id."""
        ...

    @property
    def operation(self) -> str:
        """append, replace, overwrite or delete."""
        ...

    @property
    def summary(self) -> Mapping[str, str]:
        """Its summary properties."""
        ...


@dataclass(slots=True)
class ChangedHours:
    """Hours since 1970 by exchange; exchanges of which every hour may have changed; or simply everything."""

    hours: dict[str, set[int]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    everything: bool = False

    def __bool__(self) -> bool:
        return self.everything or bool(self.whole) or bool(self.hours)

    def of(self, exchange: str | None) -> set[int] | None:
        """Return the changed hours of one exchange, or of all; None for every hour."""
        if self.everything or (self.whole if exchange is None else exchange in self.whole):
            return None
        if exchange is not None:
            return self.hours.get(exchange, set())
        return set().union(*self.hours.values())

    def add(self, commit: Commit) -> None:
        """Add the hours that one commit has changed."""
        exchange, encoded = commit.summary.get(EXCHANGE), commit.summary.get(HOURS)
        if commit.operation == "replace" or _adds_nothing(commit):
            return
        if commit.operation == "append" and exchange and encoded:
            hours = self.hours.setdefault(exchange, set())
            for first, last in json.loads(encoded):
                hours.update(range(first, last + 1))
        elif exchange:  # rows were deleted, or appended by a writer that does not record their hours
            self.whole.add(exchange)
        else:
            self.everything = True


def effective_summary(snapshot_id: int, summary: Mapping[str, str], properties: Mapping[str, str]) -> Mapping[str, str]:
    """Return a Gold commit's summary with the exchange whose rows it deleted.

    Spark cannot set summary properties on a DELETE, so the exchange stands in the table property `DELETED<id>`.
    """
    exchange = properties.get(f"{DELETED}{snapshot_id}")
    return {**summary, EXCHANGE: exchange} if exchange else summary


def _adds_nothing(commit: Commit) -> bool:
    return commit.operation == "append" and commit.summary.get("added-records", "0") == "0"


def changed_hours(newest_first: Iterable[Commit], since: int) -> ChangedHours | None:
    """Return the hours changed after the snapshot `since`; None if the history does not reach back to it."""
    changes = ChangedHours()
    expected: int | None = None
    for commit in newest_first:
        if commit.id == since:
            return changes
        if expected is not None and commit.id != expected:
            return None
        changes.add(commit)
        expected = commit.parent
        if expected == since:
            return changes
        if expected is None:
            return None
    return None


def encode_hours(hours: Iterable[int]) -> str:
    """Encode hours as JSON ranges. Beyond 64 ranges the closest are merged, which adds the hours between them."""
    ranges: list[list[int]] = []
    for hour in sorted(set(hours)):
        if ranges and hour <= ranges[-1][1] + 1:
            ranges[-1][1] = hour
        else:
            ranges.append([hour, hour])
    while len(ranges) > _MAX_RANGES:
        distances = [later[0] - earlier[1] for earlier, later in pairwise(ranges)]
        closest = distances.index(min(distances))
        ranges[closest : closest + 2] = [[ranges[closest][0], ranges[closest + 1][1]]]
    return json.dumps(ranges, separators=(",", ":"))
