"""The order book of one symbol: quantities by price, and the best prices. Pure.

Prices and quantities are integers in units of 10**-12. A quantity is absolute; 0 deletes the level.
"""

from collections.abc import Iterable

Level = tuple[int, int]  # price and quantity


class OrderBook:
    """The levels of one symbol."""

    __slots__ = ("_best_ask", "_best_bid", "asks", "bids", "unknown_deletes")

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.unknown_deletes = 0  # of levels that were not there, since the last snapshot
        self._best_bid: int | None = None
        self._best_ask: int | None = None

    def __len__(self) -> int:
        """Return the number of levels."""
        return len(self.bids) + len(self.asks)

    @property
    def best_bid(self) -> Level | None:
        """The best bid; None without bids."""
        return None if self._best_bid is None else (self._best_bid, self.bids[self._best_bid])

    @property
    def best_ask(self) -> Level | None:
        """The best ask; None without asks."""
        return None if self._best_ask is None else (self._best_ask, self.asks[self._best_ask])

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask: a fault, once a message is applied as a whole."""
        return self._best_bid is not None and self._best_ask is not None and self._best_bid >= self._best_ask

    def replace(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Replace all levels by those of a snapshot."""
        self.bids = {price: quantity for price, quantity in bids if quantity}
        self.asks = {price: quantity for price, quantity in asks if quantity}
        self._best_bid, self._best_ask = max(self.bids, default=None), min(self.asks, default=None)
        self.unknown_deletes = 0

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Apply changed levels, in order."""
        for price, quantity in bids:
            if not quantity:
                self._delete_bid(price)
                continue
            self.bids[price] = quantity
            if self._best_bid is None or price > self._best_bid:
                self._best_bid = price
        for price, quantity in asks:
            if not quantity:
                self._delete_ask(price)
                continue
            self.asks[price] = quantity
            if self._best_ask is None or price < self._best_ask:
                self._best_ask = price

    def _delete_bid(self, price: int) -> None:
        if self.bids.pop(price, None) is None:
            self.unknown_deletes += 1
        elif price == self._best_bid:
            self._best_bid = max(self.bids, default=None)

    def _delete_ask(self, price: int) -> None:
        if self.asks.pop(price, None) is None:
            self.unknown_deletes += 1
        elif price == self._best_ask:
            self._best_ask = min(self.asks, default=None)

    def truncate(self, depth: int) -> tuple[list[int], list[int]]:
        """Drop the levels beyond the best `depth` of each side, where the exchange does not delete them itself.

        Return their prices: bids, asks.
        """
        bids: list[int] = []
        asks: list[int] = []
        while len(self.bids) > depth:
            bids.append(min(self.bids))
            del self.bids[bids[-1]]
        while len(self.asks) > depth:
            asks.append(max(self.asks))
            del self.asks[asks[-1]]
        return bids, asks

    def top(self, depth: int) -> tuple[list[Level], list[Level]]:
        """Return the best `depth` bids and asks, the best first."""
        bids = sorted(self.bids.items(), reverse=True)[:depth]
        return bids, sorted(self.asks.items())[:depth]
