"""Trades that a table holds, told again by a simulated exchange, at their own pace or another. The clock is given."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.sources import TradeBatch
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Trade

_MOST: Final = 2000  # trades between two looks at who listens


class NotReplayable(ValueError):
    """A trade that the exchange's protocol has no words for."""


class TableSource:
    """Trades in the order in which they come, at `speed` times their pace (0: as fast as listeners take them)."""

    wait_for_client = True
    lossless = True

    def __init__(self, trades: Iterable[Trade], pairs: Sequence[Pair], speed: float) -> None:
        """Raises `CannotBeRetold` if the first trade has no id of the exchange's own."""
        self._pairs = {pair.symbol: pair for pair in pairs}
        self._trades = iter(trades)
        self._speed = speed
        self._opened = 0
        self._next = self._read_next()
        self._first = self._next.time if self._next else 0
        self.emitted = 0

    @property
    def finished(self) -> bool:
        """Whether every trade was told."""
        return self._next is None

    def open(self, now: int) -> None:
        """The first trade is due."""
        self._opened = now

    def until(self, now: int) -> Iterator[TradeBatch]:
        """Trades whose time has come, each by itself, a few thousand at most."""
        for _ in range(_MOST):
            sim_trade = self._next
            if sim_trade is None or (self._speed and (sim_trade.time - self._first) / self._speed > now - self._opened):
                return
            self._next = self._read_next()
            self.emitted += 1
            yield (sim_trade,), ()

    def late(self, time: int) -> Iterator[SimTrade]:
        """Nothing: what happened has happened."""
        yield from ()

    def renumber(self) -> None:
        """Nothing: what happened has happened."""

    def _read_next(self) -> SimTrade | None:
        trade = next(self._trades, None)
        return None if trade is None else sim_trade(trade, self._pairs)


def sim_trade(trade: Trade, pairs: Mapping[str, Pair]) -> SimTrade:
    """The trade as the simulated exchange holds it. Raises `CannotBeRetold`."""
    vendor_data = dict(trade.vendor_data)
    has_sequence, fills = trade.trade_id.isdigit(), vendor_data.get("count", "")
    if not has_sequence and trade.exchange != "BYBIT":
        raise NotReplayable(
            f"{trade.exchange} gave the trade {trade.trade_id} of {trade.symbol} no id, so its protocol cannot tell it "
            f"again under the same one; replay into a topic or a file"
        )
    return SimTrade(
        pairs[trade.symbol],
        int(trade.trade_id) if has_sequence else 0,
        trade.timestamp,
        trade.price,
        trade.quantity,
        trade.side is Side.BUY,
        int(fills) if trade.exchange == "OKX" and fills.isdigit() else 1,
        trade.trade_id,
    )
