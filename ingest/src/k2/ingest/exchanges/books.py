"""What the adapters of order books have in common: the state of each symbol, and the records that it judges.

Every message is a record, whatever becomes of it. One that joins the state is verified, or unverifiable where the
exchange sends nothing that could prove it. Between a loss and the next state, and before the first one, it is suspect.
Snapshots are records of the state, so that a reader needs the last one and what follows it on its connection.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from k2.ingest.books.records import BookRecords, Ids, Message
from k2.ingest.books.splice import Outcome
from k2.ingest.books.state import OrderBook
from k2.ingest.exchanges.base import NO_ID, Event, SequencedRecord, Unfit
from k2.ingest.exchanges.connection_adapter import ConnectionAdapter
from k2.schemas.exchanges.spec import ExchangeSpec, Pair
from k2.schemas.states import Verdict
from k2.schemas.values import InexactValue

MOST_LEVELS: Final = 200_000  # of a book, some 40 MB
_LONGEST_PAUSE: Final = 60_000_000
_SETTLED: Final = 1_000  # messages after which earlier attempts are forgotten

Book = TypeVar("Book")


@dataclass(slots=True, eq=False)
class Tracked(Generic[Book]):
    """The state of one symbol on one connection. Times are when messages were received, in UTC microseconds."""

    pair: Pair
    book: Book
    changed: int = 0  # levels of the changes since the last snapshot record
    written: int = 0  # when that was made
    joined: int = 0  # messages since the state was complete
    joined_at: int = 0  # the last of them
    missed: int = 0  # levels of the changes that joined no state
    attempts: int = 0  # to get a state
    not_before: int = 0  # the next attempt
    unfit: bool = False  # nothing is recorded until it is subscribed again


class BookAdapter(ConnectionAdapter, ABC, Generic[Book]):
    """The common part of the adapters of order books."""

    spec: ExchangeSpec
    certain = Verdict.VERIFIED  # of a message that joins the state
    most_levels = MOST_LEVELS
    depth = 0  # levels of a side; 0: the deepest that the exchange offers
    first_pause = 1_000_000  # microseconds between two attempts to get a state, doubled each time
    snapshot_interval = 0  # microseconds between snapshot records; 0: when the changes are as large as one

    def __init__(self, pairs: Sequence[Pair], *, depth: int = 0, snapshot_interval: int = 0) -> None:
        self.depth = depth or max(self.spec.depths)
        self.snapshot_interval = snapshot_interval
        self._records = BookRecords(self.spec.label)
        self._tracked: dict[str, Tracked[Book]] = {}
        self.set_pairs(pairs)

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        super().set_pairs(pairs)
        symbols = {pair.symbol for pair in pairs}
        self._tracked = {symbol: tracked for symbol, tracked in self._tracked.items() if symbol in symbols}

    @abstractmethod
    def _new_book(self) -> Book:
        """Return the book of a symbol without a state."""

    @abstractmethod
    def _levels(self, book: Book) -> OrderBook:
        """Return the levels of a book."""

    def _of(self, pair: Pair) -> Tracked[Book]:
        tracked = self._tracked.get(pair.symbol)
        if tracked is None:
            tracked = self._tracked[pair.symbol] = Tracked(pair, self._new_book())
        return tracked

    def _begin(self, pairs: Sequence[Pair]) -> None:
        """Take note that symbols are subscribed, perhaps again."""
        for pair in pairs:
            if (tracked := self._tracked.get(pair.symbol)) is not None:
                tracked.unfit = False

    def _delta(
        self, tracked: Tracked[Book], message: Message, ids: Ids, outcome: Outcome, received: int, time: int | None
    ) -> list[Event]:
        """Return the record of a message, and those of a snapshot if one is due."""
        pair, size = tracked.pair, len(message.bids) + len(message.asks)
        record = self._records.delta(pair, message, ids, self._verdict(outcome), received, time)
        events: list[Event] = [SequencedRecord(record, NO_ID, NO_ID)]
        if outcome is Outcome.APPLIED:
            tracked.changed += size
            tracked.joined += 1
            tracked.joined_at = received
            if tracked.joined >= _SETTLED:
                tracked.attempts = 0
            levels = self._levels(tracked.book)
            if len(levels) > self.most_levels:
                return [*events, self._unfit(tracked, f"a book of more than {self.most_levels} levels")]
            if self._is_due(tracked, len(levels), received):
                events += self._snapshot(tracked, ids, received, time)
        elif outcome is not Outcome.STALE:
            tracked.missed += size
            tracked.joined = 0
        return events

    def _verdict(self, outcome: Outcome) -> Verdict:
        if outcome is Outcome.APPLIED:
            return self.certain
        # What comes again changes nothing, and nothing proves it.
        return Verdict.UNVERIFIABLE if outcome is Outcome.STALE else Verdict.SUSPECT

    def _is_due(self, tracked: Tracked[Book], levels: int, received: int) -> bool:
        if self.snapshot_interval:
            return received - tracked.written >= self.snapshot_interval
        return tracked.changed >= max(levels, 1)

    def _snapshot(self, tracked: Tracked[Book], ids: Ids, received: int, time: int | None) -> list[Event]:
        """Return the records of the state."""
        levels = self._levels(tracked.book)
        if len(levels) > self.most_levels:
            return [self._unfit(tracked, f"a book of more than {self.most_levels} levels")]
        try:
            message = self._records.state(tracked.pair.symbol, levels)
        except InexactValue as error:
            return [self._unfit(tracked, str(error))]
        tracked.changed = tracked.missed = 0
        tracked.written = tracked.joined_at = received
        last = Ids(last=ids.last)
        records = self._records.snapshot(tracked.pair, message, last, self.certain, received, time)
        return [SequencedRecord(record, NO_ID, NO_ID) for record in records]

    def _unfit(self, tracked: Tracked[Book], reason: str) -> Unfit:
        tracked.unfit, tracked.book = True, self._new_book()
        return Unfit(tracked.pair.raw_symbol, reason)

    def _attempt(self, tracked: Tracked[Book], received: int) -> bool:
        """Return whether it is time to get a new state; each attempt delays the next one."""
        if received < tracked.not_before:
            return False
        tracked.not_before = received + min(_LONGEST_PAUSE, self.first_pause << min(tracked.attempts, 6))
        tracked.attempts += 1
        return True
