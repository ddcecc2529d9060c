"""Simulated Kraken: its frames of order books, cut to a depth, each with a checksum."""

from collections.abc import Sequence
from zlib import crc32

from k2.ingest.exchanges.base_venue import number
from k2.ingest.simulator.order_book import Levels, OrderBook
from k2.schemas.values import from_micros

_CHECKED = 10  # levels of a side

Steps = tuple[int, int]  # decimals of prices and quantities


class KrakenBooks:
    """The windows on the books that clients have. All clients have one depth: that of the last subscription."""

    def __init__(self) -> None:
        self.depth = 10
        self._windows: dict[str, tuple[dict[int, int], dict[int, int]]] = {}

    def snapshot(self, book: OrderBook, steps: Steps) -> str:
        """Return the frame that a subscription begins with."""
        levels = book.levels(self.depth)
        self._windows[book.pair.raw_symbol] = (dict(levels[0]), dict(levels[1]))
        return self._frame(book, "snapshot", levels, steps)

    def update(self, book: OrderBook, steps: Steps) -> str:
        """Return the frame of a change: what differs in the window, without the levels that fell out of it."""
        bids, asks = (dict(side) for side in book.levels(self.depth))
        old_bids, old_asks = self._windows.get(book.pair.raw_symbol, ({}, {}))
        self._windows[book.pair.raw_symbol] = (bids, asks)
        levels = _difference(old_bids, bids, book.bids), _difference(old_asks, asks, book.asks)
        return self._frame(book, "update", levels, steps)

    def _frame(self, book: OrderBook, kind: str, levels: Levels, steps: Steps) -> str:
        bids, asks = (_json(side, steps) for side in levels)
        time = from_micros(book.time).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{book.pair.raw_symbol}","bids":{bids},'
            f'"asks":{asks},"checksum":{_checksum(book, steps)},"timestamp":"{time}"}}]}}'
        )


def _difference(old: dict[int, int], new: dict[int, int], whole: dict[int, int]) -> list[tuple[int, int]]:
    deleted = [(price, 0) for price in old if price not in whole]
    return deleted + [(price, quantity) for price, quantity in new.items() if old.get(price) != quantity]


def _json(levels: Sequence[tuple[int, int]], steps: Steps) -> str:
    """Return levels with bare numbers, as the exchange writes them."""
    rows = [f'{{"price":{number(price, steps[0])},"qty":{number(size, steps[1])}}}' for price, size in levels]
    return f"[{','.join(rows)}]"


def _checksum(book: OrderBook, steps: Steps) -> int:
    bids, asks = book.levels(_CHECKED)
    values = [(value, places) for level in (*asks, *bids) for value, places in zip(level, steps, strict=True)]
    return crc32("".join(number(value, places).replace(".", "").lstrip("0") for value, places in values).encode())
