"""Order books of exchanges that send the state at the beginning of a subscription: a lost one is subscribed again."""

from collections.abc import Sequence

from k2.ingest.books.records import Ids, Message
from k2.ingest.books.splice import Outcome
from k2.ingest.books.state import OrderBook
from k2.ingest.books.stream import UNCHECKED, StreamedBook
from k2.ingest.exchanges.base import NO_ID, Event, InvalidItem, Resubscribe, SequencedRecord
from k2.ingest.exchanges.books import BookAdapter, Tracked
from k2.schemas.exchanges.spec import Pair
from k2.schemas.states import Verdict


class StreamedBookAdapter(BookAdapter[StreamedBook]):
    """The common part of the adapters. `truncates`: the client drops what falls out of the depth."""

    first_pause = 5_000_000
    truncates = False

    def _new_book(self) -> StreamedBook:
        return StreamedBook(self.depth if self.truncates else 0)

    def _levels(self, book: StreamedBook) -> OrderBook:
        return book.book

    def whole(self, symbol: str) -> OrderBook | None:
        """Return the book of a symbol; None while there is none."""
        tracked = self._tracked.get(symbol)
        return tracked.book.book if tracked is not None and tracked.book.exists else None

    def _checked(self, tracked: Tracked[StreamedBook], checksum: int | None) -> bool:
        """Return whether the state is what a message says of it, where the exchange sends a checksum."""
        return True

    def _state(
        self,
        tracked: Tracked[StreamedBook],
        message: Message,
        ids: Ids,
        received: int,
        time: int | None,
        checksum: int | None = None,
    ) -> list[Event]:
        """Take a snapshot. Return its records."""
        if tracked.unfit:
            return []
        last_id = UNCHECKED if ids.last is None else ids.last
        outcome = tracked.book.snapshot(message.scaled_bids, message.scaled_asks, last_id)
        if outcome is Outcome.APPLIED and self._checked(tracked, checksum):
            return self._snapshot(tracked, ids, received, time)
        tracked.book.lose()
        pair, suspect = tracked.pair, Verdict.SUSPECT
        records = self._records.snapshot(pair, message, Ids(last=ids.last), suspect, received, time)
        return [*(SequencedRecord(record, NO_ID, NO_ID) for record in records), *self._again(tracked, received)]

    def _change(
        self,
        tracked: Tracked[StreamedBook],
        message: Message,
        ids: Ids,
        received: int,
        time: int | None,
        checksum: int | None = None,
    ) -> list[Event]:
        """Take a change, which follows the state `ids.previous`. Return its records and what they make necessary.

        Raises `InexactValue` like `Message.with_deletions`.
        """
        if tracked.unfit:
            return []
        book = tracked.book
        previous, last = (UNCHECKED if value is None else value for value in (ids.previous, ids.last))
        outcome = book.change(message.scaled_bids, message.scaled_asks, previous, last)
        if outcome is Outcome.APPLIED and self.truncates and any(book.dropped):
            message = message.with_deletions(*book.dropped)
        if outcome is Outcome.APPLIED and not self._checked(tracked, checksum):
            book.lose()
            outcome = Outcome.LOST
        events = self._delta(tracked, message, ids, outcome, received, time)
        if outcome is Outcome.LOST:
            events += self._again(tracked, received)
        elif outcome is Outcome.WAITING:
            events += self._overdue(tracked, received)
        return events

    def _invalid(self, pair: Pair | None, item: InvalidItem, received: int) -> list[Event]:
        """Return an item that cannot be read, and give up the state that it would have changed."""
        if pair is None:
            return [item]
        tracked = self._of(pair)
        tracked.book.lose()
        return [item, *self._again(tracked, received)]

    def _lose_all(self) -> None:
        """Give up all states: a message is lost that may have been about any of them."""
        for tracked in self._tracked.values():
            tracked.book.lose()

    def _again(self, tracked: Tracked[StreamedBook], received: int) -> list[Event]:
        """Return the request for a new subscription, if it is time for one."""
        return [Resubscribe(tracked.pair.raw_symbol)] if self._attempt(tracked, received) else []

    def _overdue(self, tracked: Tracked[StreamedBook], received: int) -> list[Event]:
        """Return the same for a subscription that does not begin with a snapshot; the first one has some time."""
        if tracked.attempts:
            return self._again(tracked, received)
        self._attempt(tracked, received)
        return []

    def _begin(self, pairs: Sequence[Pair]) -> None:
        """Take note that symbols are subscribed, perhaps again: another snapshot comes."""
        super()._begin(pairs)
        for pair in pairs:
            if (tracked := self._tracked.get(pair.symbol)) is not None:
                tracked.book.lose()
