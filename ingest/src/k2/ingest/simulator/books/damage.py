"""Faults of order book messages: what is sent instead of the frames of a change. Pure."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from k2.ingest.exchanges.base_venue import Venue
from k2.ingest.simulator.fault_injector import FaultInjector
from k2.ingest.simulator.order_book import OrderBook, OrderBooks, SimChange, SimLevel
from k2.schemas.values import UNIT

_CHECKSUM: Final = re.compile(r'("checksum":)([1-9]\d*)')


class BookDamage:
    """Damages the messages of order books as the active faults say."""

    def __init__(self, venue: Venue, books: OrderBooks, faults: FaultInjector) -> None:
        self._venue = venue
        self._books = books
        self._faults = faults
        self._held: dict[str, list[str]] = {}  # frames that are sent after the next ones, by raw symbol

    def frames(self, change: SimChange) -> list[str]:
        """Return the frames that are sent of a change."""
        symbol = change.book.pair.raw_symbol
        made = self._made(change)
        earlier = self._held.pop(symbol, [])
        if not made or self._takes("book-drop", symbol):
            return earlier
        if self._takes("book-swap", symbol):
            self._held[symbol] = made
            return earlier
        if self._takes("book-repeat", symbol):
            made = [*made, *made]
        if self._takes("book-cut", symbol):
            made = [frame[: len(frame) // 2] for frame in made]
        if any(map(_CHECKSUM.search, made)) and self._takes("book-checksum", symbol):
            made = [_CHECKSUM.sub(lambda match: f"{match[1]}{int(match[2]) ^ 1}", frame) for frame in made]
        return [*made, *earlier]

    def jump(self, amount: int, target: str) -> None:
        """Let the numbers of books jump: those between are of no message."""
        for book in self._chosen(target):
            book.update += amount
            book.moment += amount

    def reset(self, target: str) -> list[tuple[str, list[str]]]:
        """Let the numbers of books begin again. Return what the exchange sends of it, with the raw symbols."""
        return [(book.pair.raw_symbol, list(self._venue.reset_book(book))) for book in self._chosen(target)]

    def _made(self, change: SimChange) -> list[str]:
        """Return the frames of a change, with a bid above all asks if it is to cross."""
        book, best = change.book, change.book.best_ask
        if best is None or not self._takes("book-cross", book.pair.raw_symbol):
            return list(self._venue.book_frames(change))
        crossing = SimLevel(is_bid=True, price=best[0] + UNIT, quantity=UNIT)
        book.bids[crossing.price] = crossing.quantity  # while the frame is made, so that a checksum is of it
        frames = list(self._venue.book_frames(replace(change, levels=(*change.levels, crossing))))
        del book.bids[crossing.price]
        return frames

    def _takes(self, kind: str, symbol: str) -> bool:
        return self._faults.take(kind, 1, [symbol])

    def _chosen(self, target: str) -> Iterable[OrderBook]:
        return [book for symbol, book in self._books.books.items() if target in {"", symbol}]
