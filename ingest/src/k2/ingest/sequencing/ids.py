"""Which ids came, which came twice, which are missing. Pure: fed with trades in the order of arrival.

A symbol's trades are followed by their ids. An id that jumps ahead leaves a gap behind it; a later trade may still
fill it. An id that came before is a duplicate if it says the same, and a conflict if it does not. A numbering that
begins anew is followed from its new beginning.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

from k2.ingest.exchanges.base import Gap, SequencedTrade
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Trade

_RECENT_IDS: Final = 256  # ids per symbol whose content is known; exchanges repeat 50 at most
_RESET_RUN: Final = 3  # so many consecutive ids far below the last are a new numbering, not old trades

Fingerprint = int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A trade that came before, and said the same."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A trade id that came before with another price, quantity or side."""


@dataclass(frozen=True, slots=True)
class GapDetected:
    """A gap, found because of what came after it."""

    gap: Gap


@dataclass(frozen=True, slots=True)
class GapFilled:
    """A late trade; `closed` are the gaps that it completed."""

    closed: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class SequenceReset:
    """The exchange's numbering began anew."""

    was: int


Finding = Duplicate | Conflict | GapDetected | GapFilled | SequenceReset
_DUPLICATE, _CONFLICT = Duplicate(), Conflict()


@dataclass(frozen=True, slots=True)
class Position:
    """The newest trade of a symbol that Kafka holds: its id, and its exchange time in microseconds."""

    trade_id: str
    timestamp: int


@dataclass(slots=True)
class _OpenGap:
    """A gap, and the ids of it that are still missing, as disjoint inclusive ranges."""

    gap: Gap
    missing: list[tuple[int, int]]

    def fill(self, first: int, last: int) -> bool:
        """Takes ids out; whether any of them was missing."""
        rest: list[tuple[int, int]] = []
        for low, high in self.missing:
            if last < low or first > high:
                rest.append((low, high))
                continue
            if low < first:
                rest.append((low, first - 1))
            if high > last:
                rest.append((last + 1, high))
        hit = rest != self.missing
        self.missing = rest
        return hit


@dataclass(slots=True)
class _Track:
    """What is known of one symbol."""

    pair: Pair
    last_id: int
    last_time: int
    recent: dict[int, Fingerprint] = field(default_factory=dict)
    gaps: list[_OpenGap] = field(default_factory=list)
    low_id: int = 0
    low_run: int = 0


class Tracker(Protocol):
    """What ingest asks about continuity, whether or not the exchange numbers its trades."""

    def resume(self, pair: Pair, position: Position) -> None:
        """Goes on after the last trade that an earlier process delivered."""

    def disconnected(self) -> None:
        """A connection ended."""

    def observe(self, pair: Pair, observed: SequencedTrade) -> Finding | None:
        """What the next trade says about continuity; None for the usual case."""

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Accounts for a trade that was dead-lettered; ids before it may be a gap."""

    def head(self, symbol: str, newest_id: int, received: int) -> GapDetected | None:
        """The exchange's word that `newest_id` exists; what we lack up to it is a gap, it included."""

    def missing(self, gap: Gap) -> tuple[tuple[int, int], ...]:
        """The ranges of a gap that have not come yet; none once it is complete."""
        ...

    def repaired(self, gap: Gap, observed: SequencedTrade) -> bool:
        """Takes a trade out of a gap; False if it had come meanwhile."""
        ...

    def settle(self, gap: Gap) -> tuple[tuple[int, int], ...]:
        """Forgets a gap; returns the ranges that never came."""
        ...

    def reopen(self, gap: Gap) -> None:
        """Follows a gap that an earlier process found and did not settle."""


class SequenceTracker:
    """Every symbol's ids. At most `capacity` symbols; the one that traded longest ago is forgotten first."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._tracks: dict[str, _Track] = {}

    def resume(self, pair: Pair, position: Position) -> None:
        """Goes on after the last trade that an earlier process delivered."""
        self._tracks[pair.symbol] = _Track(pair, int(position.trade_id), position.timestamp)

    def observe(self, pair: Pair, observed: SequencedTrade) -> Finding | None:
        """What the next trade says about continuity; None for the usual case, the one that follows the last."""
        trade = observed.trade
        last = observed.last_id
        track = self._tracks.get(trade.symbol)
        if track is None:
            self._add(_Track(pair, last, trade.timestamp))
            track = self._tracks[trade.symbol]
            _record(track, last, trade)
            return None
        expected = track.last_id + 1
        first = observed.first_id
        if last < expected:
            return self._observe_old(track, observed)
        since = track.last_time
        track.last_id = last
        track.last_time = trade.timestamp
        _record(track, last, trade)
        if first <= expected:
            return None
        return self._missing(track, Gap(pair, expected, first - 1, since, trade.timestamp))

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Accounts for a trade that was dead-lettered; ids before it may be a gap."""
        track = self._tracks.get(pair.symbol)
        if track is None or last_id <= track.last_id:
            return None
        expected = track.last_id + 1
        track.last_id = last_id
        if last_id == expected:
            return None
        return self._missing(track, Gap(pair, expected, last_id - 1, track.last_time, received))

    def head(self, symbol: str, newest_id: int, received: int) -> GapDetected | None:
        """The exchange's word that `newest_id` exists; what we lack up to it is a gap, it included."""
        track = self._tracks.get(symbol)
        if track is None or newest_id <= track.last_id:
            return None
        gap = Gap(track.pair, track.last_id + 1, newest_id, track.last_time, received)
        track.last_id = newest_id
        return self._missing(track, gap)

    def repaired(self, gap: Gap, observed: SequencedTrade) -> bool:
        """Takes a trade out of a gap; False if it had come meanwhile."""
        track = self._tracks.get(gap.pair.symbol)
        if track is None:
            return True
        hits = [entry.fill(observed.first_id, observed.last_id) for entry in track.gaps]
        return any(hits)

    def missing(self, gap: Gap) -> tuple[tuple[int, int], ...]:
        """The ranges of a gap that have not come yet; none once late trades completed it."""
        track = self._tracks.get(gap.pair.symbol)
        return tuple(ids for entry in track.gaps if entry.gap == gap for ids in entry.missing) if track else ()

    def settle(self, gap: Gap) -> tuple[tuple[int, int], ...]:
        """Forgets a gap; returns the ranges that never came."""
        left = self.missing(gap)
        if track := self._tracks.get(gap.pair.symbol):
            track.gaps = [entry for entry in track.gaps if entry.gap != gap]
        return left

    def disconnected(self) -> None:
        """A connection ended. Ids tell what was missed, so there is nothing to note."""

    def reopen(self, gap: Gap) -> None:
        """Follows a gap that an earlier process found and did not settle."""
        track = self._tracks.get(gap.pair.symbol)
        if track is None:
            self._add(track := _Track(gap.pair, gap.last_id, gap.until))
        track.gaps.append(_OpenGap(gap, [(gap.first_id, gap.last_id)]))

    @staticmethod
    def _missing(track: _Track, gap: Gap) -> GapDetected:
        track.gaps.append(_OpenGap(gap, [(gap.first_id, gap.last_id)]))
        return GapDetected(gap)

    @staticmethod
    def _observe_old(track: _Track, observed: SequencedTrade) -> Finding | None:
        trade, last = observed.trade, observed.last_id
        known = track.recent.get(last)
        if known is not None:
            return _DUPLICATE if known == _fingerprint(trade) else _CONFLICT
        hits = [entry for entry in track.gaps if entry.fill(observed.first_id, last)]
        if hits:
            _record(track, last, trade)
            closed = tuple(entry.gap for entry in hits if not entry.missing)
            track.gaps = [entry for entry in track.gaps if entry.missing]
            return GapFilled(closed)
        track.low_run = track.low_run + 1 if observed.first_id == track.low_id + 1 else 1
        track.low_id = last
        if track.low_run >= _RESET_RUN and last < track.last_id // 2:
            was = track.last_id
            track.last_id, track.last_time, track.low_run = last, trade.timestamp, 0
            track.recent.clear()
            _record(track, last, trade)
            return SequenceReset(was)
        return _DUPLICATE

    def _add(self, track: _Track) -> None:
        if len(self._tracks) >= self._capacity:
            oldest = min(self._tracks.values(), key=lambda known: known.last_time)
            del self._tracks[oldest.pair.symbol]
        self._tracks[track.pair.symbol] = track


def _fingerprint(trade: Trade) -> Fingerprint:
    return hash((trade.price, trade.quantity, trade.side))


def _record(track: _Track, number: int, trade: Trade) -> None:
    recent = track.recent
    recent[number] = hash((trade.price, trade.quantity, trade.side))
    if len(recent) > _RECENT_IDS:
        del recent[next(iter(recent))]
