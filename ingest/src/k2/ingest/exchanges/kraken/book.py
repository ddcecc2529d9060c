"""Kraken spot, websocket v2 (docs.kraken.com, "Book (Level 2)" and "Book checksum"): frames to books.

There are no sequence numbers. Each message has a CRC-32 of the best ten levels of each side, after all of its levels
are applied and the book is cut to the depth of the subscription. Levels that fall out are not deleted by the exchange:
their deletions are added to the record. `verified` means the best ten levels of each side.
"""

from collections.abc import Sequence

from k2.ingest.books.records import Ids
from k2.ingest.books.stream import StreamedBook
from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
)
from k2.ingest.exchanges.books import Tracked
from k2.ingest.exchanges.items import decoded, invalid_item, rejected
from k2.ingest.exchanges.kraken.checksum import checksum, places_of
from k2.ingest.exchanges.kraken.control import KrakenControl
from k2.ingest.exchanges.kraken.messages import BOOK, BOOK_FRAME, BookItem, Level, bare
from k2.ingest.exchanges.kraken.spec import KrakenSpec
from k2.ingest.exchanges.streamed_books import StreamedBookAdapter
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import InexactValue, to_micros


class KrakenBook(KrakenSpec, KrakenControl, StreamedBookAdapter):
    """Order books of Kraken spot."""

    has_sequence = False
    channel = "book"
    truncates = True

    def __init__(self, pairs: Sequence[Pair], **options: int) -> None:
        super().__init__(pairs, **options)
        self._places: dict[str, tuple[int, int]] = {}  # decimals of prices and quantities, by symbol
        self.options = {"depth": self.depth}

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe request that asks for a snapshot."""
        self._begin(pairs)
        return super().subscribe(pairs, number)

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`; the next checksum shows whether it was a book's."""
        try:
            message = BOOK_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self.control(frame, error)
        events: list[Event] = []
        for index, raw in enumerate(message.data):
            try:
                item = BOOK.decode(raw)
            except DECODE_ERRORS as error:
                invalid = invalid_item(decoded(raw), error, self._by_name, "symbol")
                pair = next((pair for pair in self._pairs if pair.symbol == invalid.symbol), None)
                events += self._invalid(pair, invalid, received)
            else:
                events += self._item(item, index, received, is_snapshot=message.type == "snapshot")
        return events

    def _item(self, item: BookItem, index: int, received: int, *, is_snapshot: bool) -> list[Event]:
        pair = self._by_name.get(item.symbol)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{item.symbol[:40]!r} was not subscribed", index=index)]
        time = None if item.timestamp is None else to_micros(item.timestamp)
        try:
            message = self._records.message(pair.symbol, _texts(item.bids), _texts(item.asks))
            tracked = self._of(pair)
            if is_snapshot:
                self._places.pop(pair.symbol, None)
                return self._state(tracked, message, Ids(), received, time, item.checksum)
            return self._change(tracked, message, Ids(), received, time, item.checksum)
        except (InexactValue, MalformedFrame) as error:
            return self._invalid(pair, rejected(error, pair, index), received)

    def _checked(self, tracked: Tracked[StreamedBook], expected: int | None) -> bool:
        book, symbol = tracked.book.book, tracked.pair.symbol
        assert expected is not None
        places = self._places.get(symbol)
        if places is not None:
            return checksum(book, *places) == expected
        places = places_of(book, expected)
        if places is not None and len(book):
            self._places[symbol] = places
        return places is not None


def _texts(levels: Sequence[Level]) -> list[list[str]]:
    return [[bare(level.price), bare(level.qty)] for level in levels]
