"""A seeded random market: the same seed gives the same prices, quantities and ids.

Pure: the caller passes the clock. Trades come in batches (one order, several fills in one millisecond); one batch in a
few hundred has hundreds of fills, and now and then the market is quiet.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import UNIT

FIRST_ID: Final = 1_000_001
LOT: Final = UNIT // 10_000_000  # the smallest step of quantities
_RELISTING: Final = 0.002  # seconds without trades, so that times rise between two listings
_BURST_CHANCE: Final = 0.002
_BURST_FILLS: Final = (100, 700)
_EXTRA_FILL: Final = 0.35  # chance of another fill in the same batch
_QUIET_RATE: Final = 0.05  # fraction of the busy rate
_BUSY_SECONDS: Final = 20.0
_QUIET_SECONDS: Final = 4.0
_TYPICAL: Final = {"BTC": 60_000, "ETH": 2_500, "SOL": 150, "XRP": 2, "DOGE": 1}
# The mean fills per batch and the mean rate of both phases convert trades per second into batches per second.
_MEAN_FILLS: Final = (1 - _BURST_CHANCE) / (1 - _EXTRA_FILL) + _BURST_CHANCE * sum(_BURST_FILLS) / 2
_MEAN_ACTIVITY: Final = (_BUSY_SECONDS + _QUIET_RATE * _QUIET_SECONDS) / (_BUSY_SECONDS + _QUIET_SECONDS)


@dataclass(frozen=True, slots=True)
class SimTrade:
    """One trade of the simulated exchange. Price and quantity in units of 10**-12, time in UTC microseconds."""

    pair: Pair
    id: int
    time: int
    price: int
    quantity: int
    buy: bool  # the aggressor bought
    name: str = ""  # the trade id on the wire, if it is not derived from `id`
    listing: int = 1  # each listing of the symbol restarts the ids


@dataclass(slots=True)
class Market:
    """The market of one symbol. `rate` is in trades per second; `opened` is UTC microseconds."""

    pair: Pair
    seed: str
    rate: float
    opened: int
    next_id: int = FIRST_ID
    listing: int = 1
    _rng: random.Random = field(init=False)
    _price: int = field(init=False)
    _tick: int = field(init=False)
    _next: float = field(init=False)  # seconds since the opening
    _phase_ends: float = 0.0
    _quiet: bool = True

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.seed}/{self.pair.raw_symbol}")
        self._tick = tick_of(self.pair)
        self._price = _typical(self.pair) * UNIT // self._tick * self._tick
        self._next = self._next_interval(0.0)

    def until(self, now: int) -> Iterator[SimTrade]:
        """Yield the trades up to `now` (UTC microseconds) that were not yielded before."""
        elapsed = (now - self.opened) / 1e6
        while self._next <= elapsed:
            yield from self._batch(self.opened + int(self._next * 1e3) * 1000)
            self._next += self._next_interval(self._next)

    def skip(self, now: int) -> None:
        """Pass over the time up to `now` (UTC microseconds) without trades, as while an instrument is halted."""
        elapsed = (now - self.opened) / 1e6
        while self._next <= elapsed:
            self._next += self._next_interval(self._next)

    def relist(self) -> None:
        """Begin the next listing, with id 1."""
        self.next_id, self.listing = 1, self.listing + 1
        self._next += _RELISTING

    def _batch(self, time: int) -> Iterator[SimTrade]:
        rng, buy = self._rng, self._rng.random() < 0.5
        direction = 1 if buy else -1
        for _ in range(self._fills()):
            if rng.random() < 0.5:
                self._price = max(self._tick, self._price + direction * self._tick)
            quantity = max(1, int(rng.paretovariate(1.3) * 50_000)) * LOT  # 0.005 and up, with a long tail
            quantity = min(quantity, 10_000 * UNIT)
            yield SimTrade(self.pair, self.next_id, time, self._price, quantity, buy, listing=self.listing)
            self.next_id += 1

    def _fills(self) -> int:
        if self._rng.random() < _BURST_CHANCE:
            return self._rng.randint(*_BURST_FILLS)
        fills = 1
        while self._rng.random() < _EXTRA_FILL:
            fills += 1
        return fills

    def _next_interval(self, at: float) -> float:
        while at >= self._phase_ends:
            self._quiet = not self._quiet
            self._phase_ends += self._rng.expovariate(1 / (_QUIET_SECONDS if self._quiet else _BUSY_SECONDS))
        batches = self.rate / (_MEAN_FILLS * _MEAN_ACTIVITY) * (_QUIET_RATE if self._quiet else 1.0)
        return self._rng.expovariate(batches)


def tick_of(pair: Pair) -> int:
    """Return the smallest step of a pair's prices, in units of 10**-12."""
    return max(UNIT // 10_000, _typical(pair) * UNIT // 1_000_000)


def _typical(pair: Pair) -> int:
    return _TYPICAL.get(pair.base, 10)
