"""Trade sources of the simulated exchange: a seeded market or a recording. Pure: the caller passes the clock."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import NO_ID, Adapter, MalformedFrame, SequencedRecord
from k2.ingest.simulator.capture import UnreadableCapture, frames
from k2.ingest.simulator.market import Market, SimTrade
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Trade

TradeBatch = tuple[Sequence[SimTrade], Sequence[str]]  # trades of one moment, and their frames if recorded


class TradeSource(Protocol):
    """A source of trades in time order."""

    wait_for_client: bool  # start with the first subscription
    lossless: bool  # pause while a client is far behind, so that it misses nothing

    @property
    def finished(self) -> bool:
        """Whether the source is exhausted."""
        ...

    def open(self, now: int) -> None:
        """Start the source at `now` (UTC microseconds)."""

    def until(self, now: int) -> Iterator[TradeBatch]:
        """Yield the batches up to `now` (UTC microseconds) that were not yielded before."""
        ...

    def late(self, time: int) -> Iterator[SimTrade]:
        """Yield one trade with an earlier `time` (UTC microseconds), if the source can produce one."""
        ...

    def relist(self) -> None:
        """Begin the next listing of every symbol, with trade id 1."""

    def add(self, pair: Pair, now: int) -> None:
        """Begin trading a symbol at `now` (UTC microseconds), or trade it again."""

    def halt(self, raw_symbol: str) -> None:
        """Stop trading a symbol."""

    def skip_ids(self, raw_symbol: str, count: int) -> None:
        """Never issue the next ids of a symbol."""


class MarketSource:
    """Seeded markets of several symbols. `count` limits the number of trades; 0 means no limit."""

    lossless = False

    def __init__(
        self, pairs: Sequence[Pair], *, seed: str, rate: float, count: int = 0, wait_for_client: bool = False
    ) -> None:
        self.wait_for_client = wait_for_client
        self._pairs, self._seed, self._rate, self._remaining = pairs, seed, rate, count or -1
        self._markets: list[Market] = []
        self._halted: set[str] = set()

    @property
    def finished(self) -> bool:
        """Whether `count` trades were produced."""
        return self._remaining == 0

    def open(self, now: int) -> None:
        """Open every market."""
        share = self._rate / len(self._pairs)
        self._markets = [Market(pair, self._seed, share, now) for pair in self._pairs]

    def until(self, now: int) -> Iterator[TradeBatch]:
        """Yield the batches of every market up to `now`."""
        for market in self._markets:
            if market.pair.raw_symbol in self._halted:
                market.skip(now)
                continue
            batch: list[SimTrade] = []
            for sim_trade in market.until(now):
                if self.finished:
                    break
                if batch and batch[-1].time != sim_trade.time:
                    yield batch, ()
                    batch = []
                batch.append(sim_trade)
                self._remaining -= 1 if self._remaining > 0 else 0
            if batch:
                yield batch, ()

    def late(self, time: int) -> Iterator[SimTrade]:
        """Yield a trade of the first market with its next id."""
        for market in self._markets[:1]:
            typical = next(iter(Market(market.pair, self._seed, 1.0, 0).until(10**9)))
            at = time // 1000 * 1000
            yield SimTrade(
                market.pair, market.next_id, at, typical.price, typical.quantity, buy=True, listing=market.listing
            )
            market.next_id += 1

    def relist(self) -> None:
        """Begin the next listing of every market, with id 1."""
        for market in self._markets:
            market.relist()

    def add(self, pair: Pair, now: int) -> None:
        """Open a market at `now`, or resume the one that was halted."""
        self._halted.discard(pair.raw_symbol)
        if all(market.pair.raw_symbol != pair.raw_symbol for market in self._markets):
            self._markets.append(Market(pair, self._seed, self._rate / len(self._pairs), now))

    def halt(self, raw_symbol: str) -> None:
        """Pass over a market until it is added again."""
        self._halted.add(raw_symbol)

    def skip_ids(self, raw_symbol: str, count: int) -> None:
        """Never issue the next ids of a market."""
        for market in self._markets:
            if market.pair.raw_symbol == raw_symbol:
                market.next_id += count


class CaptureSource:
    """Recorded frames at `speed` times their pace (0: as fast as possible), byte for byte."""

    wait_for_client = True
    lossless = False

    def __init__(self, exchange: str, files: Sequence[Path], pairs: Sequence[Pair], speed: float) -> None:
        reader = adapter(exchange, TRADES, pairs)
        by_symbol = {pair.symbol: pair for pair in pairs}
        entries = [
            (at, sim_trades, text)
            for path in files
            for at, frame in frames(path)
            for sim_trades, text in _trades(reader, frame, by_symbol)
        ]
        if not entries:
            raise UnreadableCapture(f"{', '.join(map(str, files))}: no trade of the requested symbols")
        entries.sort(key=lambda entry: entry[0])
        first = entries[0][0]
        self._entries = [((at - first) / speed if speed else 0.0, sim_trades, text) for at, sim_trades, text in entries]
        self._next, self._opened = 0, 0

    @property
    def finished(self) -> bool:
        """Whether every frame was yielded."""
        return self._next >= len(self._entries)

    def open(self, now: int) -> None:
        """Start the recording."""
        self._opened = now

    def until(self, now: int) -> Iterator[TradeBatch]:
        """Yield the frames that are due."""
        elapsed = (now - self._opened) / 1e6
        while not self.finished and self._entries[self._next][0] <= elapsed:
            _, sim_trades, text = self._entries[self._next]
            self._next += 1
            yield sim_trades, (text,)

    def late(self, time: int) -> Iterator[SimTrade]:
        """Do nothing: a recording is not changed."""
        yield from ()

    def relist(self) -> None:
        """Do nothing: a recording is not changed."""

    def add(self, pair: Pair, now: int) -> None:
        """Do nothing: a recording is not changed."""

    def halt(self, raw_symbol: str) -> None:
        """Do nothing: a recording is not changed."""

    def skip_ids(self, raw_symbol: str, count: int) -> None:
        """Do nothing: a recording is not changed."""


def _trades(reader: Adapter, frame: bytes, pairs: dict[str, Pair]) -> Iterator[tuple[Sequence[SimTrade], str]]:
    try:
        events = reader.parse(frame, 0)
    except MalformedFrame:
        return
    records = [event.record for event in events if isinstance(event, SequencedRecord)]
    trades = [record for record in records if isinstance(record, Trade)]
    sim_trades = [
        SimTrade(pairs[t.symbol], int(t.trade_id) if t.trade_id.isdigit() else NO_ID, t.timestamp, t.price, t.quantity,
             t.side is Side.BUY)
        for t in trades
    ]  # fmt: skip
    if sim_trades:
        yield sim_trades, frame.decode()
