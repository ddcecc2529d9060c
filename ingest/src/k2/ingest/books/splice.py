"""Continuity of a book whose changes are numbered, and whose first state comes from elsewhere. Pure.

Changes wait until a snapshot is there; those that the snapshot contains are dropped, and the next one must join it. A
gap in the numbers makes the book suspect, until another snapshot is spliced in.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from k2.ingest.books.state import Level, OrderBook

MOST_WAITING: Final = 2_000  # changes that wait for a snapshot; without one, the oldest are forgotten


@dataclass(frozen=True, slots=True)
class Change:
    """The changed levels of one message, and the ids of its first and last change."""

    first_id: int
    last_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    time: int | None = None  # the exchange's, in UTC microseconds


class Outcome(Enum):
    """What became of a message."""

    APPLIED = "applied"  # it joins what came before
    WAITING = "waiting"  # there is no state yet that it could join
    STALE = "stale"  # the state contains it
    LOST = "lost"  # messages before it are missing, or the book is crossed: a snapshot is needed


class SplicedBook:
    """The book of one symbol, spliced from a snapshot and the changes after it."""

    def __init__(self) -> None:
        self.book = OrderBook()
        self.last_id: int | None = None  # of the state; None while there is none
        self.time: int | None = None  # of the state's last change; None for a snapshot's that did not come as one
        self._waiting: deque[Change] = deque(maxlen=MOST_WAITING)

    @property
    def waiting(self) -> int:
        """The number of changes that wait for a snapshot."""
        return len(self._waiting)

    def change(self, change: Change) -> Outcome:
        """Take a change."""
        if self.last_id is None:
            if self._waiting and change.first_id != self._waiting[-1].last_id + 1:
                self._waiting.clear()  # no snapshot joins what is before a gap to what is after it
            self._waiting.append(change)
            return Outcome.WAITING
        if change.last_id <= self.last_id:
            return Outcome.STALE
        if change.first_id > self.last_id + 1 or not self._applied(change):
            self.lose()
            self._waiting.append(change)
            return Outcome.LOST
        return Outcome.APPLIED

    def snapshot(self, last_id: int, bids: Sequence[Level], asks: Sequence[Level]) -> bool:
        """Take a snapshot. Return whether it joins the changes; if not, a newer one is needed."""
        if self.last_id is not None and last_id <= self.last_id:
            return True  # the state is newer, and without a gap
        later = [change for change in self._waiting if change.last_id > last_id]
        self.time = next((change.time for change in self._waiting if change.last_id == last_id), None)
        self._waiting.clear()
        self.book.replace(bids, asks)
        self.last_id = None if self.book.crossed else last_id
        for change in later:  # after a gap, they wait for the next snapshot
            self.change(change)
        return self.last_id is not None

    def lose(self) -> None:
        """Give the state up, because messages are missing."""
        self.last_id = None
        self._waiting.clear()

    def _applied(self, change: Change) -> bool:
        self.book.apply(change.bids, change.asks)
        self.last_id, self.time = change.last_id, change.time
        return not self.book.crossed
