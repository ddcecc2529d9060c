"""The order book of a simulated market: limit orders, cancellations, and trades that take them. Pure and seeded.

The book follows the market's trades: after a trade the best price on the side that was taken is the trade's own, or a
worse one if that level was emptied. It is never crossed. Every change of a level has a number of its own.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from k2.ingest.simulator.market import LOT, SimTrade, tick_of
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import UNIT

FIRST_UPDATE: Final = 50_000_000_001
FIRST_AFTER_RESET: Final = 1_000
_LEVELS: Final = 40  # on each side at the beginning, and where changes happen
_CHANGES: Final = 4  # most changes of orders, beside what trades do, at a moment
_CANCELLED: Final = 0.3  # chance that a change is a cancellation
_LEFT: Final = 0.6  # chance that a level survives a trade that takes all of it
_MOST: Final = 1_000 * UNIT


@dataclass(frozen=True, slots=True)
class SimLevel:
    """A level of an order book; the quantity is absolute, 0 deletes. In units of 10**-12."""

    is_bid: bool
    price: int
    quantity: int


Levels = tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]  # price and quantity: bids, asks


@dataclass(frozen=True, slots=True)
class SimQuote:
    """Best bid and ask as (price, quantity) in units of 10**-12, None for an empty side; time in UTC microseconds.

    `update` is the number of the last change of the book.
    """

    pair: Pair
    update: int
    time: int
    bid: tuple[int, int] | None
    ask: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class SimChange:
    """Changed levels of a book: the numbers of the first and last, and the quote if best bid or ask changed.

    `time` is in UTC microseconds; `opened` says that the book began with them.
    """

    book: "OrderBook"
    first: int
    last: int
    time: int
    levels: tuple[SimLevel, ...]
    quote: SimQuote | None
    opened: bool


def sides(levels: Sequence[SimLevel]) -> Levels:
    """Return the last quantity of each changed level: bids, asks."""
    last = {(level.is_bid, level.price): level.quantity for level in levels}
    bids = [(price, quantity) for (is_bid, price), quantity in last.items() if is_bid]
    return bids, [(price, quantity) for (is_bid, price), quantity in last.items() if not is_bid]


@dataclass(slots=True)
class OrderBook:
    """The order book of one symbol."""

    pair: Pair
    seed: str
    update: int = FIRST_UPDATE
    moment: int = 1  # how often it changed
    time: int = 0  # of the last change, in UTC microseconds
    bids: dict[int, int] = field(default_factory=dict)  # quantity by price
    asks: dict[int, int] = field(default_factory=dict)
    _rng: random.Random = field(init=False)
    _tick: int = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.seed}/book/{self.pair.raw_symbol}")
        self._tick = tick_of(self.pair)

    @property
    def best_bid(self) -> tuple[int, int] | None:
        """Price and quantity of the best bid."""
        return (price := max(self.bids), self.bids[price]) if self.bids else None

    @property
    def best_ask(self) -> tuple[int, int] | None:
        """Price and quantity of the best ask."""
        return (price := min(self.asks), self.asks[price]) if self.asks else None

    def levels(self, depth: int = 0) -> Levels:
        """Return the best `depth` bids and asks, the best first; 0: all."""
        bids, asks = sorted(self.bids.items(), reverse=True), sorted(self.asks.items())
        return bids[: depth or None], asks[: depth or None]

    def quote(self, time: int) -> SimQuote:
        """Return best bid and ask at a time, in UTC microseconds."""
        return SimQuote(self.pair, self.update, time, self.best_bid, self.best_ask)

    def follow(self, trades: Sequence[SimTrade]) -> list[SimLevel]:
        """Take the trades of one moment, and change some orders. Return the changed levels, in order."""
        changes: list[SimLevel] = []
        if not self.bids and trades:
            self._open(trades[0].price, changes)
        for trade in trades:
            self._take(trade, changes)
        for _ in range(self._rng.randint(0, _CHANGES)):
            self._change(changes)
        self.update += len(changes)
        return changes

    def _open(self, price: int, changes: list[SimLevel]) -> None:
        for step in range(1, _LEVELS + 1):
            self._set(price + step * self._tick, self._quantity(), changes, is_bid=False)
            if price > step * self._tick:
                self._set(price - step * self._tick, self._quantity(), changes, is_bid=True)

    def _take(self, trade: SimTrade, changes: list[SimLevel]) -> None:
        """Remove what the aggressor took: better levels, and its quantity at the trade's price."""
        side, price = (self.asks if trade.buy else self.bids), trade.price
        better = [level for level in side if (level < price if trade.buy else level > price)]
        for level in sorted(better, reverse=not trade.buy):
            self._set(level, 0, changes, is_bid=not trade.buy)
        other = self.bids if trade.buy else self.asks
        for level in [level for level in other if (level >= price if trade.buy else level <= price)]:
            self._set(level, 0, changes, is_bid=trade.buy)
        left = side.get(price, 0) - trade.quantity
        if left <= 0 and self._rng.random() < _LEFT:
            left = self._quantity()  # more orders stood there
        if left > 0 or price in side:
            self._set(price, max(left, 0), changes, is_bid=not trade.buy)
        self._refill(price, changes)

    def _refill(self, price: int, changes: list[SimLevel]) -> None:
        """Give an empty side orders again."""
        if not self.bids and price > self._tick:
            self._set(price - self._tick, self._quantity(), changes, is_bid=True)
        if not self.asks:
            self._set(price + self._tick, self._quantity(), changes, is_bid=False)

    def _change(self, changes: list[SimLevel]) -> None:
        """Add, change or cancel one level, without crossing the book."""
        bid, ask = self.best_bid, self.best_ask
        if bid is None or ask is None:
            return
        rng, is_bid = self._rng, self._rng.random() < 0.5
        side, distance = (self.bids if is_bid else self.asks), rng.randint(0, _LEVELS)
        if len(side) > 2 * _LEVELS or (rng.random() < _CANCELLED and len(side) > _LEVELS // 2):
            self._set(sorted(side)[rng.randrange(len(side))], 0, changes, is_bid=is_bid)
            return
        price = ask[0] - (distance + 1) * self._tick if is_bid else bid[0] + (distance + 1) * self._tick
        if price > 0:
            self._set(price, self._quantity(), changes, is_bid=is_bid)

    def _quantity(self) -> int:
        return min(max(1, int(self._rng.paretovariate(1.2) * 200_000)) * LOT, _MOST)

    def _set(self, price: int, quantity: int, changes: list[SimLevel], *, is_bid: bool) -> None:
        side = self.bids if is_bid else self.asks
        if quantity:
            side[price] = quantity
        else:
            side.pop(price, None)
        changes.append(SimLevel(is_bid, price, quantity))


class OrderBooks:
    """The order books of all symbols, and every quote that followed from them, by raw symbol."""

    books: dict[str, OrderBook]

    def __init__(self, seed: str) -> None:
        self.quotes: dict[str, list[SimQuote]] = {}
        self._seed = seed
        self.books = {}

    def of(self, pair: Pair) -> OrderBook:
        """Return the book of a symbol. It is empty before the first trade: its subscribers get a snapshot then too."""
        return self.books.setdefault(pair.raw_symbol, OrderBook(pair, self._seed))

    def follow(self, trades: Sequence[SimTrade]) -> SimChange:
        """Take the trades of one moment and symbol. Return what changed."""
        pair, time = trades[0].pair, trades[-1].time
        book = self.of(pair)
        before, opened = (book.best_bid, book.best_ask), not book.bids and not book.asks
        first = book.update + 1
        levels = book.follow(trades)
        book.time, book.moment = time, book.moment + 1
        quote = None
        if before != (book.best_bid, book.best_ask):
            quote = book.quote(time)
            self.quotes.setdefault(pair.raw_symbol, []).append(quote)
        return SimChange(book, first, book.update, time, tuple(levels), quote, opened)

    def newest(self, raw_symbol: str) -> SimQuote | None:
        """Return the newest quote of a symbol."""
        return next(reversed(self.quotes.get(raw_symbol, [])), None)
