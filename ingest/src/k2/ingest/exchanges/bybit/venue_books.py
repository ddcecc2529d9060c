"""Simulated Bybit: its frames of order books, cut to a depth; levels that fall out of it are deleted."""

from collections.abc import Mapping, Sequence
from typing import Final

from k2.ingest.exchanges.base_venue import json_text, number
from k2.ingest.simulator.order_book import Levels, OrderBook, SimChange, sides
from k2.schemas.exchanges.registry import EXCHANGES

DEPTHS: Final = EXCHANGES["bybit"].book_depths
TOPICS: Final = {f"orderbook.{depth}.": depth for depth in DEPTHS}

_Window = tuple[dict[int, int], dict[int, int]]


class BybitBooks:
    """The windows on the books that clients have. All clients have one depth: that of the last subscription."""

    def __init__(self) -> None:
        self._depth = DEPTHS[-1]
        self._windows: dict[str, _Window] = {}

    def subscribe(self, topics: Sequence[str], books: Mapping[str, OrderBook]) -> list[str]:
        """Return the frames that the subscriptions of some topics begin with."""
        frames = []
        for topic in topics:
            prefix, symbol = _split(topic)
            if prefix:
                self._depth = TOPICS[prefix]
            if prefix and symbol in books:
                frames.append(self.snapshot(books[symbol]))
        return frames

    def snapshot(self, book: OrderBook) -> str:
        """Return the frame of the state."""
        self._windows[book.pair.raw_symbol] = window = self._window(book)
        return self._frame(book, "snapshot", _levels(window))

    def update(self, change: SimChange) -> str:
        """Return the frame of a change."""
        levels = sides(change.levels)
        if self._depth < DEPTHS[-1]:  # simulated books are never deeper than that
            symbol = change.book.pair.raw_symbol
            old, new = self._windows.get(symbol, ({}, {})), self._window(change.book)
            self._windows[symbol] = new
            levels = _difference(old[0], new[0]), _difference(old[1], new[1])
        return self._frame(change.book, "delta", levels)

    def _window(self, book: OrderBook) -> _Window:
        bids, asks = book.levels(self._depth)
        return dict(bids), dict(asks)

    def _frame(self, book: OrderBook, kind: str, levels: Levels) -> str:
        bids, asks = ([[number(price), number(size, 0)] for price, size in side] for side in levels)
        data = {"s": book.pair.raw_symbol, "b": bids, "a": asks, "u": book.moment, "seq": book.update}
        millis, topic = book.time // 1000, f"orderbook.{self._depth}.{book.pair.raw_symbol}"
        return json_text({"topic": topic, "ts": millis + 3, "type": kind, "data": data, "cts": millis})


def symbols(topics: Sequence[str]) -> list[str]:
    """Return the symbols of the topics that are of books."""
    return [symbol for prefix, symbol in map(_split, topics) if prefix]


def _split(topic: str) -> tuple[str, str]:
    prefix = next((prefix for prefix in TOPICS if topic.startswith(prefix)), "")
    return prefix, topic.removeprefix(prefix)


def _levels(window: _Window) -> Levels:
    return list(window[0].items()), list(window[1].items())


def _difference(old: dict[int, int], new: dict[int, int]) -> list[tuple[int, int]]:
    deleted = [(price, 0) for price in old if price not in new]
    return deleted + [(price, quantity) for price, quantity in new.items() if old.get(price) != quantity]
