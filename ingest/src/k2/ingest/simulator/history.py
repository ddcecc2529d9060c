"""What the simulated exchange traded, by symbol: REST answers from it, and tests compare with it."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from k2.ingest.simulator.market import Deal

KEPT: Final = 2_000_000  # trades a symbol


class History:
    """Trades in the order of their ids, the newest `KEPT` of each symbol (native spelling)."""

    def __init__(self) -> None:
        self._deals: dict[str, list[Deal]] = {}

    def add(self, deal: Deal) -> None:
        """Appends a trade."""
        deals = self._deals.setdefault(deal.pair.native, [])
        deals.append(deal)
        if len(deals) > KEPT + KEPT // 10:
            del deals[: len(deals) - KEPT]

    @property
    def deals(self) -> Mapping[str, Sequence[Deal]]:
        """Everything, by native symbol."""
        return self._deals

    def newest(self, native: str, count: int) -> Sequence[Deal]:
        """The newest trades, oldest first."""
        return self._deals.get(native, [])[-count:] if count > 0 else []

    def from_id(self, native: str, first: int, count: int) -> Sequence[Deal]:
        """Trades from an id on, oldest first."""
        deals = self._deals.get(native, [])
        start = bisect_left(deals, first, key=lambda deal: deal.id)
        return deals[start : start + count]

    def before_id(self, native: str, number: int, count: int) -> Sequence[Deal]:
        """Trades below an id, oldest first."""
        deals = self._deals.get(native, [])
        end = bisect_left(deals, number, key=lambda deal: deal.id)
        return deals[max(0, end - count) : end]

    def after_time(self, native: str, time: int, count: int) -> Sequence[Deal]:
        """Trades later than a time in microseconds, oldest first."""
        deals = self._deals.get(native, [])
        start = bisect_right(deals, time, key=lambda deal: deal.time)
        return deals[start : start + count]
