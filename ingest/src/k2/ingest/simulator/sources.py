"""Where the simulated exchange's trades come from: a seeded market, or a recording. No socket; the clock is given."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import Exchange, MalformedFrame, SequencedTrade
from k2.ingest.simulator.capture import UnreadableCapture, frames
from k2.ingest.simulator.market import SimTrade, Market
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side

TradeBatch = tuple[
    Sequence[SimTrade], Sequence[str]
]  # deals of one moment, and the frames to tell them by, if recorded


class TradeSource(Protocol):
    """Trades in the order in which they happen."""

    wait_for_client: bool  # whether it begins only when somebody listens
    lossless: bool  # whether it stands still while a listener is far behind

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        ...

    def open(self, now: int) -> None:
        """The exchange opens; UTC microseconds."""

    def until(self, now: int) -> Iterator[TradeBatch]:
        """What happened up to `now` and was not given before."""
        ...

    def late(self, time: int) -> Iterator[SimTrade]:
        """One trade that happened at an earlier time and is told only now."""
        ...

    def renumber(self) -> None:
        """Trade ids begin at 1 again."""


class MarketSource:
    """Markets of several symbols. `count` ends them after so many trades; 0 never does."""

    lossless = False

    def __init__(
        self, pairs: Sequence[Pair], *, seed: str, rate: float, count: int = 0, wait_for_client: bool = False
    ) -> None:
        self.wait_for_client = wait_for_client
        self._pairs, self._seed, self._rate, self._left = pairs, seed, rate, count or -1
        self._markets: list[Market] = []

    @property
    def finished(self) -> bool:
        """Whether `count` trades were made."""
        return self._left == 0

    def open(self, now: int) -> None:
        """Opens every market at once."""
        share = self._rate / len(self._pairs)
        self._markets = [Market(pair, self._seed, share, now) for pair in self._pairs]

    def until(self, now: int) -> Iterator[TradeBatch]:
        """Sweeps of every market up to `now`."""
        for market in self._markets:
            sweep: list[SimTrade] = []
            for sim_trade in market.until(now):
                if self.finished:
                    break
                if sweep and sweep[-1].time != sim_trade.time:
                    yield sweep, ()
                    sweep = []
                sweep.append(sim_trade)
                self._left -= 1 if self._left > 0 else 0
            if sweep:
                yield sweep, ()

    def late(self, time: int) -> Iterator[SimTrade]:
        """A trade of the first market, with its next id."""
        for market in self._markets[:1]:
            typical = next(iter(Market(market.pair, self._seed, 1.0, 0).until(10**9)))
            yield SimTrade(market.pair, market.next_id, time // 1000 * 1000, typical.price, typical.quantity, buy=True)
            market.next_id += 1

    def renumber(self) -> None:
        """Every market counts from 1."""
        for market in self._markets:
            market.next_id = 1


class CaptureSource:
    """Recorded frames at `speed` times their pace (0: as fast as they can be sent), told as they were recorded."""

    wait_for_client = True
    lossless = False

    def __init__(self, exchange: str, files: Sequence[Path], pairs: Sequence[Pair], speed: float) -> None:
        reader = adapter(exchange, pairs)
        by_symbol = {pair.symbol: pair for pair in pairs}
        found = [
            (at, sim_trades, text)
            for path in files
            for at, frame in frames(path)
            for sim_trades, text in _trades(reader, frame, by_symbol)
        ]
        if not found:
            raise UnreadableCapture(f"{', '.join(map(str, files))}: no trade of the symbols asked for")
        found.sort(key=lambda entry: entry[0])
        first = found[0][0]
        self._entries = [((at - first) / speed if speed else 0.0, sim_trades, text) for at, sim_trades, text in found]
        self._next, self._opened = 0, 0

    @property
    def finished(self) -> bool:
        """Whether every frame was sent."""
        return self._next >= len(self._entries)

    def open(self, now: int) -> None:
        """The recording begins."""
        self._opened = now

    def until(self, now: int) -> Iterator[TradeBatch]:
        """Frames whose time has come."""
        elapsed = (now - self._opened) / 1e6
        while not self.finished and self._entries[self._next][0] <= elapsed:
            _, sim_trades, text = self._entries[self._next]
            self._next += 1
            yield sim_trades, (text,)

    def late(self, time: int) -> Iterator[SimTrade]:
        """Nothing: a recording is what it is."""
        yield from ()

    def renumber(self) -> None:
        """Nothing: a recording is what it is."""


def _trades(reader: Exchange, frame: bytes, pairs: dict[str, Pair]) -> Iterator[tuple[Sequence[SimTrade], str]]:
    try:
        events = reader.parse(frame, 0)
    except MalformedFrame:
        return
    trades = [event.trade for event in events if isinstance(event, SequencedTrade)]
    sim_trades = [
        SimTrade(pairs[t.symbol], int(t.trade_id) if t.trade_id.isdigit() else 0, t.timestamp, t.price, t.quantity,
             t.side is Side.BUY)
        for t in trades
    ]  # fmt: skip
    if sim_trades:
        yield sim_trades, frame.decode()
