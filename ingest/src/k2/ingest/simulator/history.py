"""The trades and order books of the simulated exchange, by symbol. REST serves them, and tests compare with them."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.order_book import OrderBooks

RETAINED_TRADES: Final = 2_000_000  # per symbol


class History:
    """Trades in the order of their ids, the newest `RETAINED_TRADES` of each symbol (raw symbol).

    Ids are those of the newest listing, as on an exchange; all listings have a time.
    """

    def __init__(self, seed: str = "1") -> None:
        self.books = OrderBooks(seed)
        self._trades: dict[str, list[SimTrade]] = {}
        self._times: dict[str, list[int]] = {}  # of the newest trade so far, since a late one stands where it came
        self._begins: dict[str, int] = {}  # where the newest listing begins in the list

    def add(self, trade: SimTrade) -> None:
        """Append a trade."""
        raw_symbol = trade.pair.raw_symbol
        trades = self._trades.setdefault(raw_symbol, [])
        if trades and trades[-1].listing != trade.listing:
            self._begins[raw_symbol] = len(trades)
        trades.append(trade)
        times = self._times.setdefault(raw_symbol, [])
        times.append(max(trade.time, times[-1]) if times else trade.time)
        if (surplus := len(trades) - RETAINED_TRADES) > RETAINED_TRADES // 10:
            del trades[:surplus], times[:surplus]
            self._begins[raw_symbol] = max(0, self._begins.get(raw_symbol, 0) - surplus)

    @property
    def trades(self) -> Mapping[str, Sequence[SimTrade]]:
        """All trades by raw symbol."""
        return self._trades

    def newest(self, raw_symbol: str, count: int) -> Sequence[SimTrade]:
        """Return the newest trades, oldest first."""
        return self._trades.get(raw_symbol, [])[-count:] if count > 0 else []

    def from_id(self, raw_symbol: str, first: int, count: int) -> Sequence[SimTrade]:
        """Return trades from id `first` on, oldest first."""
        trades = self._trades.get(raw_symbol, [])
        start = bisect_left(trades, first, self._begins.get(raw_symbol, 0), key=lambda trade: trade.id)
        return trades[start : start + count]

    def before_id(self, raw_symbol: str, number: int, count: int) -> Sequence[SimTrade]:
        """Return trades below id `number`, oldest first."""
        trades = self._trades.get(raw_symbol, [])
        begin = self._begins.get(raw_symbol, 0)
        end = bisect_left(trades, number, begin, key=lambda trade: trade.id)
        return trades[max(begin, end - count) : end]

    def after_time(self, raw_symbol: str, time: int, count: int) -> Sequence[SimTrade]:
        """Return trades after `time` (UTC microseconds), and late ones among them, oldest first."""
        trades = self._trades.get(raw_symbol, [])
        start = bisect_right(self._times.get(raw_symbol, []), time)
        return trades[start : start + count]
