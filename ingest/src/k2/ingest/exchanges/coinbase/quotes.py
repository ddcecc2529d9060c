"""Coinbase Exchange: quotes, which are the best levels of the order book.

The exchange sends best bid and ask with trades only (`ticker`), so that they are taken from the book of `level2_batch`:
at most every 50 ms, and none while the book is lost.
"""

from collections.abc import Sequence
from typing import Final

from k2.ingest.books.state import Level as BookLevel
from k2.ingest.exchanges.base import Event, SequencedRecord
from k2.ingest.exchanges.coinbase.book import CHANNELS, NAMES, CoinbaseBook
from k2.ingest.exchanges.coinbase.control import CoinbaseControl
from k2.ingest.exchanges.coinbase.spec import CoinbaseSpec
from k2.ingest.exchanges.quotes import NO_ORDERS, Level, QuoteAdapter
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import SCALE, fixed_decimal

_NEVER: Final = 1 << 62  # microseconds between snapshots of the book, which are not recorded


class CoinbaseQuotes(CoinbaseSpec, CoinbaseControl, QuoteAdapter):
    """Best bid and ask of Coinbase Exchange."""

    has_sequence = False
    channels = CHANNELS
    names = NAMES
    limits = CoinbaseBook.limits

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._book = CoinbaseBook(pairs, snapshot_interval=_NEVER)
        self._tops: dict[str, tuple[BookLevel | None, BookLevel | None]] = {}  # by symbol
        super().__init__(pairs)

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        super().set_pairs(pairs)
        self._book.set_pairs(pairs)

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe message; the first must be sent within 5 seconds."""
        return self._book.subscribe(pairs, number)

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame, with a quote if best bid or ask changed. Raises `MalformedFrame`."""
        events = self._book.parse(frame, received)
        records = [event for event in events if isinstance(event, SequencedRecord)]
        others = [event for event in events if not isinstance(event, SequencedRecord)]
        return [*self._changed(records, received), *others]

    def _changed(self, records: Sequence[SequencedRecord], received: int) -> list[Event]:
        if not records:
            return []
        record = records[0].record
        book = self._book.whole(record.symbol)
        if book is None:
            self._tops.pop(record.symbol, None)
            return []
        top = book.best_bid, book.best_ask
        if top == self._tops.get(record.symbol):
            return []
        self._tops[record.symbol] = top
        pair = next(pair for pair in self._pairs if pair.symbol == record.symbol)
        time = None if record.timestamp == received else record.timestamp
        return [self._quote(pair, _texts(top[0]), _texts(top[1]), received, time=time)]


def _texts(level: BookLevel | None) -> Level:
    return NO_ORDERS if level is None else (fixed_decimal(level[0], SCALE), fixed_decimal(level[1], SCALE))
