"""Sequence tracking for exchanges that do not number their records. Pure: fed with records in order of arrival.

Within a connection, TCP guarantees the order. Between two connections nothing does, so the first record after a
reconnect opens a window that starts at the last record before it and must be proved empty or backfilled. So does a row
of the history that did not arrive although a later one did: the exchange lost it on an open connection.

What belongs to a window, and what proves it complete, is decided by the ids that were received before and after it: a
record may have any time, also one that lies hours back.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from k2.ingest.exchanges.base import NO_ID, Gap, SequencedRecord
from k2.ingest.sequencing.plausibility import exchange_time
from k2.ingest.sequencing.tracker import (
    Conflict,
    Coverage,
    Duplicate,
    Finding,
    GapDetected,
    IdRange,
    Position,
    WithoutConsecutiveIds,
)
from k2.schemas.channels import Record
from k2.schemas.exchanges.spec import Pair

_RECENT_IDS: Final = 256


@dataclass(frozen=True, slots=True)
class _Window:
    """An open window. `end` is the id of the first record after it; empty if an earlier process detected it."""

    before: frozenset[str]  # ids that were received before it
    end: str = ""


@dataclass(slots=True)
class _Symbol:
    last: Position
    newest_time: int = 0  # the latest of all times, which do not always rise
    disconnected: bool = False
    recent: dict[str, int | None] = field(default_factory=dict)  # fingerprints by id; None if only the id is available
    arrived: deque[Position] = field(default_factory=lambda: deque(maxlen=_RECENT_IDS))  # in order, none of backfill


class ReconnectWindowTracker(WithoutConsecutiveIds):
    """Track each symbol's recent records and whether a connection ended after them."""

    listings: Mapping[str, int] = MappingProxyType({})  # there are no ids that could restart

    def __init__(self) -> None:
        self._symbols: dict[str, _Symbol] = {}
        self._open: dict[Gap, _Window] = {}

    def resume(self, pair: Pair, position: Position, waiting: Sequence[str] = ()) -> None:
        """Continue after the newest record that any process delivered: the time since then is a window.

        Unless it is one of those that wait: then nothing is missing between them.
        """
        disconnected = position.record_id not in waiting
        delivered = waiting[: waiting.index(position.record_id) + 1] if not disconnected else (position.record_id,)
        state = _Symbol(position, position.timestamp, disconnected=disconnected, recent=dict.fromkeys(delivered))
        state.arrived.append(position)
        self._symbols[pair.symbol] = state

    def on_disconnect(self, symbols: Iterable[str]) -> None:
        """Take note that subscriptions ended: the next record of each symbol ends a window."""
        for symbol in symbols:
            if (state := self._symbols.get(symbol)) is not None:
                state.disconnected = True

    def observe(self, pair: Pair, item: SequencedRecord) -> Finding | None:
        """Take the next record. Return a window or a repeat; None if it simply follows."""
        record = item.record
        state = self._symbols.get(record.symbol)
        time = exchange_time(record)
        if state is None:
            state = self._symbols[record.symbol] = _Symbol(Position(record.record_id, time), time)
            _arrive(state, record)
            return None
        if record.record_id in state.recent:
            return Duplicate() if state.recent[record.record_id] in {None, record.fingerprint} else Conflict()
        before, state.last = state.last, Position(record.record_id, time)
        newest, state.newest_time = state.newest_time, max(state.newest_time, time)
        if not state.disconnected:
            _arrive(state, record)
            return None
        state.disconnected = False
        # A late record says nothing of when the window ended, except that it was before now. If our clock was set
        # back, every record seems to be late: then its own time is the later one.
        until = record.timestamp if time >= newest else max(newest, record.timestamp, record.ingestion_timestamp)
        gap = Gap(pair, NO_ID, NO_ID, before.timestamp, until, before.record_id)
        # Without what was backfilled: the page for an earlier window may have brought some of this one's records.
        self._open[gap] = _Window(frozenset(position.record_id for position in state.arrived), record.record_id)
        _arrive(state, record)
        return GapDetected(gap)

    def find_loss(self, pair: Pair, rows: Sequence[Record]) -> Gap | None:
        """Return the window of what the history has, newest first, and did not arrive, though older and newer ones did.

        Its window is open from then on. Nothing is found while a reconnect opens one anyway.
        """
        state = self._symbols.get(pair.symbol)
        if state is None or state.disconnected:
            return None
        arrived = {position.record_id: place for place, position in enumerate(state.arrived)}
        places = [arrived.get(record.record_id) for record in rows]
        lost = [
            index for index, record in enumerate(rows) if places[index] is None and record.record_id not in state.recent
        ]
        newest = next((index for index, place in enumerate(places) if place is not None), len(rows))
        lost = [index for index in lost if index > newest]  # those before it may be on their way
        if not lost:
            return None
        before = [place for place in places[lost[-1] + 1 :] if place is not None]
        # Without an older row that arrived: what arrived before the oldest row that did.
        place = max(before) if before else min(place for place in places if place is not None) - 1
        if place < 0:
            return None  # tracking began after them, or they are forgotten
        earlier = list(state.arrived)[: place + 1]
        anchor = earlier[-1]
        end = next(rows[index] for index in range(lost[0] - 1, -1, -1) if places[index] is not None)
        since = min(anchor.timestamp, end.timestamp)
        gap = Gap(pair, NO_ID, NO_ID, since, max(anchor.timestamp, end.timestamp), anchor.record_id)
        if gap in self._open:
            return None
        self._open[gap] = _Window(frozenset(position.record_id for position in earlier), end.record_id)
        return gap

    def settle(self, pair: Pair, item: SequencedRecord) -> Finding:
        """Return a duplicate: nothing is ever suspended."""
        return Duplicate()

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Return None: without a sequence, a dead letter leaves no gap."""
        return None

    def observe_head(self, symbol: str, newest_id: int, received: int) -> GapDetected | None:
        """Return None: there are no ids to compare."""
        return None

    def missing(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return one placeholder range while the window is open."""
        return ((NO_ID, NO_ID),) if gap in self._open else ()

    def fill(self, gap: Gap, item: SequencedRecord) -> bool:
        """Take a backfilled record. Return False if it had arrived in the meantime."""
        state = self._symbols.get(gap.pair.symbol)
        if state is None or item.record.record_id not in state.recent:
            if state is not None:
                _remember(state, item.record)
            return True
        return False

    def coverage(self, gap: Gap, row_ids: Sequence[str]) -> Coverage:
        """Return what the ids of a page's rows say of a window.

        A page that lacks a record between two others that arrived lacks others too, which may be those of the window.
        """
        window, state = self._open.get(gap), self._symbols.get(gap.pair.symbol)
        rows = frozenset(row_ids)
        if window is None or state is None:
            return Coverage(overlaps=gap.anchor in rows, reaches=False, complete=True)
        present = [position.record_id in rows for position in state.arrived]
        within = present[present.index(True) : len(present) - present[::-1].index(True)] if any(present) else []
        return Coverage(not rows.isdisjoint(window.before), window.end in rows, all(within))

    def close(self, gap: Gap) -> tuple[IdRange, ...]:
        """Stop tracking a window. Return nothing: what is missing from it cannot be counted."""
        self._open.pop(gap, None)
        return ()

    def reopen(self, gap: Gap) -> None:
        """Track a window that an earlier process detected and did not close."""
        self._open[gap] = _Window(frozenset({gap.anchor}))


def _arrive(state: _Symbol, record: Record) -> None:
    state.arrived.append(Position(record.record_id, exchange_time(record)))
    _remember(state, record)


def _remember(state: _Symbol, record: Record) -> None:
    state.recent[record.record_id] = record.fingerprint
    if len(state.recent) > _RECENT_IDS:
        del state.recent[next(iter(state.recent))]
