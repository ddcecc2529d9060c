"""Continuity of a book whose first state comes in its own stream, as a snapshot. Pure.

Where the exchange says which change comes before another, a change that does not join the state loses the book. Where
it says nothing, what is applied cannot be verified, unless by a checksum.
"""

from collections.abc import Sequence
from typing import Final

from k2.ingest.books.splice import Outcome
from k2.ingest.books.state import Level, OrderBook

UNCHECKED: Final = -1  # for a message that says nothing of the one before it


class StreamedBook:
    """The book of one symbol. `depth` is how many levels a side has at most; 0 for any number.

    With a `depth`, the exchange does not delete the levels that fall out of it: they are dropped after each message.
    """

    def __init__(self, depth: int = 0) -> None:
        self.book = OrderBook()
        self.last_id: int | None = None  # of the state; None while there is none
        self.dropped: tuple[list[int], list[int]] = ([], [])  # prices of bids and asks, by the last message
        self._depth = depth

    @property
    def exists(self) -> bool:
        """Whether there is a state that changes can join."""
        return self.last_id is not None

    def snapshot(self, bids: Sequence[Level], asks: Sequence[Level], last_id: int = UNCHECKED) -> Outcome:
        """Take a snapshot, which replaces what was before."""
        self.book.replace(bids, asks)
        self.last_id = last_id
        return self._judged()

    def change(
        self, bids: Sequence[Level], asks: Sequence[Level], previous_id: int = UNCHECKED, last_id: int = UNCHECKED
    ) -> Outcome:
        """Take the changes of one message, which follow the state `previous_id` and lead to `last_id`."""
        if self.last_id is None:
            return Outcome.WAITING
        if previous_id != self.last_id:
            self.lose()
            return Outcome.LOST
        self.book.apply(bids, asks)
        self.last_id = last_id
        return self._judged()

    def lose(self) -> None:
        """Give the state up, because messages are missing or its checksum is wrong."""
        self.last_id = None

    def _judged(self) -> Outcome:
        if self._depth:
            self.dropped = self.book.truncate(self._depth)
        if self.book.crossed:
            self.lose()
            return Outcome.LOST
        return Outcome.APPLIED
