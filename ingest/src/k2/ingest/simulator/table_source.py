"""Replay of stored trades as a simulated exchange, at a chosen speed. Pure: the caller passes the clock."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from k2.ingest.exchanges.base import NO_ID
from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.sources import TradeBatch
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair, SequenceScheme
from k2.schemas.records.trade import Side, Trade, listing_of

_MAX_BATCHES: Final = 2000  # per call, so that client queues are checked in between


class NotReplayable(ValueError):
    """A trade that the exchange's protocol cannot transmit with the same id."""


class TableSource:
    """Replay trades in their order at `speed` times the original pace (0: as fast as clients read)."""

    wait_for_client = True
    lossless = True

    def __init__(self, trades: Iterable[Trade], pairs: Sequence[Pair], speed: float) -> None:
        """Prepare the first trade. Raises `NotReplayable` if it has no id of the exchange."""
        self._pairs = {pair.symbol: pair for pair in pairs}
        self._trades = iter(trades)
        self._speed = speed
        self._opened = 0
        self._next = self._read_next()
        self._first = self._next.time if self._next else 0
        self.emitted = 0

    @property
    def finished(self) -> bool:
        """Whether every trade was emitted."""
        return self._next is None

    def open(self, now: int) -> None:
        """Start the replay; the first trade is due at once."""
        self._opened = now

    def until(self, now: int) -> Iterator[TradeBatch]:
        """Yield the trades that are due, one per batch, at most `_MAX_BATCHES`."""
        for _ in range(_MAX_BATCHES):
            sim_trade = self._next
            if sim_trade is None or (self._speed and (sim_trade.time - self._first) / self._speed > now - self._opened):
                return
            self._next = self._read_next()
            self.emitted += 1
            yield (sim_trade,), ()

    def late(self, time: int) -> Iterator[SimTrade]:
        """Do nothing: stored trades are not changed."""
        yield from ()

    def relist(self) -> None:
        """Do nothing: stored trades are not changed."""

    def add(self, pair: Pair, now: int) -> None:
        """Do nothing: stored trades are not changed."""

    def halt(self, raw_symbol: str) -> None:
        """Do nothing: stored trades are not changed."""

    def skip_ids(self, raw_symbol: str, count: int) -> None:
        """Do nothing: stored trades are not changed."""

    def _read_next(self) -> SimTrade | None:
        trade = next(self._trades, None)
        return None if trade is None else sim_trade(trade, self._pairs)


def sim_trade(trade: Trade, pairs: Mapping[str, Pair]) -> SimTrade:
    """Convert a stored trade for the simulated exchange. Raises `NotReplayable`."""
    vendor_data = dict(trade.vendor_data)
    has_sequence = trade.trade_id.isdigit()
    exchange = EXCHANGES[trade.exchange.lower()]
    if not has_sequence and exchange.sequence is not SequenceScheme.NONE:
        raise NotReplayable(
            f"trade {trade.trade_id} of {trade.symbol} has no id assigned by {trade.exchange}, so its protocol cannot "
            f"transmit it; replay into a topic or a file"
        )
    return SimTrade(
        pairs[trade.symbol],
        int(trade.trade_id) if has_sequence else NO_ID,
        trade.timestamp,
        trade.price,
        trade.quantity,
        trade.side is Side.BUY,
        trade.trade_id,
        listing_of(vendor_data),
    )
