"""Sequence tracking for exchanges that do not number their trades. Pure: fed with trades in order of arrival.

Within a connection, TCP guarantees the order. Between two connections nothing does, so the first trade after a
reconnect opens a window that starts at the last trade before it and must be proved empty or backfilled.
"""

from dataclasses import dataclass, field
from typing import Final

from k2.ingest.exchanges.base import Gap, SequencedTrade
from k2.ingest.sequencing.tracker import Conflict, Duplicate, Finding, GapDetected, IdRange, Position
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Trade

_RECENT_IDS: Final = 256


@dataclass(slots=True)
class _Symbol:
    last: Position
    disconnected: bool = False
    recent: dict[str, int | None] = field(default_factory=dict)  # fingerprints by id; None if only the id is available


class ReconnectWindowTracker:
    """Track each symbol's recent trades and whether a connection ended after them."""

    def __init__(self) -> None:
        self._symbols: dict[str, _Symbol] = {}
        self._open: set[Gap] = set()

    def resume(self, pair: Pair, position: Position) -> None:
        """Continue after the last trade that an earlier process delivered: the time since then is a window."""
        self._symbols[pair.symbol] = _Symbol(position, disconnected=True, recent={position.trade_id: None})

    def on_disconnect(self) -> None:
        """Record that a connection ended: the next trade of each symbol ends a window."""
        for state in self._symbols.values():
            state.disconnected = True

    def observe(self, pair: Pair, item: SequencedTrade) -> Finding | None:
        """Record the next trade. Return a window or a repeat; None if it simply follows."""
        trade = item.trade
        state = self._symbols.get(trade.symbol)
        if state is None:
            state = self._symbols[trade.symbol] = _Symbol(Position(trade.trade_id, trade.timestamp))
            _record(state, trade)
            return None
        if trade.trade_id in state.recent:
            return Duplicate() if state.recent[trade.trade_id] in {None, _fingerprint(trade)} else Conflict()
        before, state.last = state.last, Position(trade.trade_id, trade.timestamp)
        _record(state, trade)
        if not state.disconnected:
            return None
        state.disconnected = False
        gap = Gap(pair, 0, 0, before.timestamp, trade.timestamp, before.trade_id)
        self._open.add(gap)
        return GapDetected(gap)

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Return None: without a sequence, a dead letter leaves no gap."""
        return None

    def observe_head(self, symbol: str, newest_id: int, received: int) -> GapDetected | None:
        """Return None: there are no ids to compare."""
        return None

    def missing(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return one placeholder range while the window is open."""
        return ((0, 0),) if gap in self._open else ()

    def fill(self, gap: Gap, item: SequencedTrade) -> bool:
        """Record a backfilled trade. Return False if it had arrived in the meantime."""
        state = self._symbols.get(gap.pair.symbol)
        if state is None or item.trade.trade_id not in state.recent:
            if state is not None:
                _record(state, item.trade)
            return True
        return False

    def close(self, gap: Gap) -> tuple[IdRange, ...]:
        """Stop tracking a window. Return nothing: what is missing from it cannot be counted."""
        self._open.discard(gap)
        return ()

    def reopen(self, gap: Gap) -> None:
        """Track a window that an earlier process detected and did not close."""
        self._open.add(gap)


def _fingerprint(trade: Trade) -> int:
    return hash((trade.price, trade.quantity, trade.side))


def _record(state: _Symbol, trade: Trade) -> None:
    state.recent[trade.trade_id] = _fingerprint(trade)
    if len(state.recent) > _RECENT_IDS:
        del state.recent[next(iter(state.recent))]
