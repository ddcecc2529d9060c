"""Continuity where the exchange numbers nothing: each reconnect leaves a window that must be proved empty or closed.

Pure: fed with trades in the order of arrival. Within one connection TCP vouches for the order; between two, nothing
does, so the first trade after a reconnect opens a window from the last trade before it.
"""

from dataclasses import dataclass, field
from typing import Final

from k2.ingest.exchanges.base import Gap, SequencedTrade
from k2.ingest.sequencing.ids import Conflict, Duplicate, Finding, GapDetected, Position
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Trade

_RECENT_IDS: Final = 256


@dataclass(slots=True)
class _Track:
    last: Position
    broken: bool = False
    recent: dict[str, int] = field(default_factory=dict)


class ReconnectWindowTracker:
    """Every symbol's newest trades, and whether a connection ended since."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}
        self._open: set[Gap] = set()

    def resume(self, pair: Pair, position: Position) -> None:
        """Goes on after the last trade that an earlier process delivered: the time between is a window."""
        self._tracks[pair.symbol] = _Track(position, broken=True, recent={position.trade_id: 0})

    def disconnected(self) -> None:
        """A connection ended: the next trade of each symbol closes a window."""
        for track in self._tracks.values():
            track.broken = True

    def observe(self, pair: Pair, observed: SequencedTrade) -> Finding | None:
        """A window, a repeated trade, or None for the usual case."""
        trade = observed.trade
        track = self._tracks.get(trade.symbol)
        if track is None:
            track = self._tracks[trade.symbol] = _Track(Position(trade.trade_id, trade.timestamp))
            _record(track, trade)
            return None
        known = track.recent.get(trade.trade_id)
        if known is not None:
            return Duplicate() if known in {0, _fingerprint(trade)} else Conflict()
        before, track.last = track.last, Position(trade.trade_id, trade.timestamp)
        _record(track, trade)
        if not track.broken:
            return None
        track.broken = False
        gap = Gap(pair, 0, 0, before.timestamp, trade.timestamp, before.trade_id)
        self._open.add(gap)
        return GapDetected(gap)

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Nothing: a dead letter has no place in a numbering that is not there."""
        return None

    def head(self, symbol: str, newest_id: int, received: int) -> GapDetected | None:
        """Nothing: there are no ids to compare with."""
        return None

    def missing(self, gap: Gap) -> tuple[tuple[int, int], ...]:
        """One empty range while the window is open."""
        return ((0, 0),) if gap in self._open else ()

    def repaired(self, gap: Gap, observed: SequencedTrade) -> bool:
        """Whether a trade of the window is new."""
        track = self._tracks.get(gap.pair.symbol)
        if track is None or observed.trade.trade_id not in track.recent:
            if track is not None:
                _record(track, observed.trade)
            return True
        return False

    def settle(self, gap: Gap) -> tuple[tuple[int, int], ...]:
        """Forgets a window. What was in it cannot be counted, so nothing is left of it."""
        self._open.discard(gap)
        return ()

    def reopen(self, gap: Gap) -> None:
        """Follows a window that an earlier process found and did not settle."""
        self._open.add(gap)


def _fingerprint(trade: Trade) -> int:
    return hash((trade.price, trade.quantity, trade.side)) or 1  # 0 stands for a trade known by its id only


def _record(track: _Track, trade: Trade) -> None:
    track.recent[trade.trade_id] = _fingerprint(trade)
    if len(track.recent) > _RECENT_IDS:
        del track.recent[next(iter(track.recent))]
