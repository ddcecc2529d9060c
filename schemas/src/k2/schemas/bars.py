"""Which hours' bars a stretch of Gold's history changes, and up to which of its snapshots bars are made. Pure.

A commit of Gold says in its summary in which hours its trades lie; one of the bars says which Gold snapshot they equal.
Bars of an hour are a function of that hour's trades alone, so of two snapshots the bars differ at most in the hours
that the commits between the two have touched.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

EXCHANGE: Final = "k2.exchange"
HOURS: Final = "k2.hours"  # ranges of hours since 1970, both ends included
GOLD_SNAPSHOT: Final = "k2.gold-snapshot-id"
DELETED: Final = "k2.deleted-of."  # a property of Gold: of which exchange this snapshot has deleted rows

_MOST_RANGES: Final = 64


class Commit(Protocol):
    """One snapshot of a table, as any engine tells it."""

    @property
    def id(self) -> int:
        """Its id."""
        ...

    @property
    def parent(self) -> int | None:
        """The snapshot before it."""
        ...

    @property
    def operation(self) -> str:
        """append, replace, overwrite or delete."""
        ...

    @property
    def summary(self) -> Mapping[str, str]:
        """What it says of itself."""
        ...


@dataclass(slots=True)
class Touched:
    """Hours since 1970 by exchange; exchanges of which every hour may have changed; or simply everything."""

    hours: dict[str, set[int]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    everything: bool = False

    def __bool__(self) -> bool:
        return self.everything or bool(self.whole) or bool(self.hours)

    def of(self, exchange: str | None) -> set[int] | None:
        """The hours of one exchange, or of all; None for every hour."""
        if self.everything or (self.whole if exchange is None else exchange in self.whole):
            return None
        if exchange is not None:
            return self.hours.get(exchange, set())
        return set().union(*self.hours.values())

    def add(self, commit: Commit) -> None:
        """Takes what one commit has touched."""
        exchange, told = commit.summary.get(EXCHANGE), commit.summary.get(HOURS)
        if commit.operation == "replace" or _adds_nothing(commit):
            return
        if commit.operation == "append" and exchange and told:
            found = self.hours.setdefault(exchange, set())
            for first, last in json.loads(told):
                found.update(range(first, last + 1))
        elif exchange:  # rows were deleted, or added by a writer that does not tell their hours
            self.whole.add(exchange)
        else:
            self.everything = True


def summary(snapshot_id: int, told: Mapping[str, str], properties: Mapping[str, str]) -> Mapping[str, str]:
    """What a commit of Gold says of itself, and whose rows it deleted: Spark lets no DELETE say that in its summary."""
    exchange = properties.get(f"{DELETED}{snapshot_id}")
    return {**told, EXCHANGE: exchange} if exchange else told


def _adds_nothing(commit: Commit) -> bool:
    return commit.operation == "append" and commit.summary.get("added-records", "0") == "0"


def changed(newest_first: Iterable[Commit], since: int) -> Touched | None:
    """What the commits after the snapshot `since` have touched; None if the history does not reach back to it."""
    found = Touched()
    awaited: int | None = None
    for commit in newest_first:
        if commit.id == since:
            return found
        if awaited is not None and commit.id != awaited:
            return None
        found.add(commit)
        awaited = commit.parent
        if awaited == since:
            return found
        if awaited is None:
            return None
    return None


def ranges(hours: Iterable[int]) -> str:
    """Hours as a commit tells them. Of very many, what lies between some of them is told too."""
    found: list[list[int]] = []
    for hour in sorted(set(hours)):
        if found and hour <= found[-1][1] + 1:
            found[-1][1] = hour
        else:
            found.append([hour, hour])
    while len(found) > _MOST_RANGES:
        gaps = [later[0] - earlier[1] for earlier, later in pairwise(found)]
        closest = gaps.index(min(gaps))
        found[closest : closest + 2] = [[found[closest][0], found[closest + 1][1]]]
    return json.dumps(found, separators=(",", ":"))
