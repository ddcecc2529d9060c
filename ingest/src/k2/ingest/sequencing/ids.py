"""Sequence tracking for exchanges that number their records. Pure: fed with records in order of arrival.

An id that jumps ahead leaves a gap, which a later record may still fill. An id received before is a duplicate if its
content is the same, and a conflict otherwise. After a reset, the tracker follows the new sequence.
"""

from dataclasses import dataclass, field
from typing import Final

from k2.ingest.exchanges.base import Gap, SequencedRecord
from k2.ingest.sequencing.tracker import (
    Conflict,
    Duplicate,
    Finding,
    GapDetected,
    GapFilled,
    IdRange,
    Position,
    SequenceReset,
)
from k2.schemas.channels import Record
from k2.schemas.exchanges.spec import Pair

_RECENT_IDS: Final = 256  # fingerprints per symbol; exchanges repeat at most 50 records
_RESET_RUN: Final = 3  # this many consecutive ids far below the last one are a new sequence, not old records

Fingerprint = int
_DUPLICATE, _CONFLICT = Duplicate(), Conflict()


@dataclass(slots=True)
class _OpenGap:
    """A gap and its missing ids, as disjoint inclusive ranges."""

    gap: Gap
    missing: list[IdRange]

    def fill(self, first: int, last: int) -> bool:
        """Remove ids `first` to `last`. Return whether any of them was missing."""
        rest: list[IdRange] = []
        for low, high in self.missing:
            if last < low or first > high:
                rest.append((low, high))
                continue
            if low < first:
                rest.append((low, first - 1))
            if high > last:
                rest.append((last + 1, high))
        changed = rest != self.missing
        self.missing = rest
        return changed


@dataclass(slots=True)
class _Symbol:
    """The tracking state of one symbol."""

    pair: Pair
    last_id: int
    last_time: int
    recent: dict[int, Fingerprint] = field(default_factory=dict)
    gaps: list[_OpenGap] = field(default_factory=list)
    low_id: int = 0  # the last id far below `last_id`
    low_run: int = 0  # length of the consecutive run that ends in it


class SequenceTracker:
    """Track the ids of every symbol. Beyond `capacity` symbols, the one with the oldest last record is evicted."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._symbols: dict[str, _Symbol] = {}

    def resume(self, pair: Pair, position: Position) -> None:
        """Continue after the last record that an earlier process delivered."""
        self._add(_Symbol(pair, int(position.record_id), position.timestamp))

    def observe(self, pair: Pair, item: SequencedRecord) -> Finding | None:
        """Take the next record. Return what it reveals; None if it follows the last one."""
        record = item.record
        last = item.last_id
        state = self._symbols.get(record.symbol)
        if state is None:
            self._add(_Symbol(pair, last, record.timestamp))
            state = self._symbols[record.symbol]
            _remember(state, last, record)
            return None
        expected = state.last_id + 1
        first = item.first_id
        if last < expected:
            return self._observe_old(state, item)
        since = state.last_time
        state.last_id = last
        state.last_time = record.timestamp
        _remember(state, last, record)
        if first <= expected:
            return None
        return self._open(state, Gap(pair, expected, first - 1, since, record.timestamp))

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Take the id of a dead letter, so that it does not count as missing. Return a gap before it."""
        state = self._symbols.get(pair.symbol)
        if state is None or last_id <= state.last_id:
            return None
        expected = state.last_id + 1
        state.last_id = last_id
        if last_id == expected:
            return None
        return self._open(state, Gap(pair, expected, last_id - 1, state.last_time, received))

    def observe_head(self, symbol: str, newest_id: int, received: int) -> GapDetected | None:
        """Take the id that the exchange reports as its newest. Return the gap up to and including it."""
        state = self._symbols.get(symbol)
        if state is None or newest_id <= state.last_id:
            return None
        gap = Gap(state.pair, state.last_id + 1, newest_id, state.last_time, received)
        state.last_id = newest_id
        return self._open(state, gap)

    def fill(self, gap: Gap, item: SequencedRecord) -> bool:
        """Take a backfilled record. Return False if it had arrived in the meantime."""
        state = self._symbols.get(gap.pair.symbol)
        if state is None:
            return True
        changes = [entry.fill(item.first_id, item.last_id) for entry in state.gaps]
        return any(changes)

    def missing(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return the id ranges of a gap that have not arrived; empty once it is complete."""
        state = self._symbols.get(gap.pair.symbol)
        return tuple(ids for entry in state.gaps if entry.gap == gap for ids in entry.missing) if state else ()

    def close(self, gap: Gap) -> tuple[IdRange, ...]:
        """Stop tracking a gap. Return the id ranges that never arrived."""
        missing = self.missing(gap)
        if state := self._symbols.get(gap.pair.symbol):
            state.gaps = [entry for entry in state.gaps if entry.gap != gap]
        return missing

    def on_disconnect(self) -> None:
        """Do nothing: the ids show what was missed."""

    def reopen(self, gap: Gap) -> None:
        """Track a gap that an earlier process detected and did not close."""
        state = self._symbols.get(gap.pair.symbol)
        if state is None:
            self._add(state := _Symbol(gap.pair, gap.last_id, gap.until))
        state.gaps.append(_OpenGap(gap, [(gap.first_id, gap.last_id)]))

    @staticmethod
    def _open(state: _Symbol, gap: Gap) -> GapDetected:
        state.gaps.append(_OpenGap(gap, [(gap.first_id, gap.last_id)]))
        return GapDetected(gap)

    @staticmethod
    def _observe_old(state: _Symbol, item: SequencedRecord) -> Finding | None:
        """Classify a record whose id is not above the last one: repeat, conflict, late record or reset."""
        record, last = item.record, item.last_id
        recorded = state.recent.get(last)
        if recorded is not None:
            return _DUPLICATE if recorded == record.fingerprint else _CONFLICT
        filled = [entry for entry in state.gaps if entry.fill(item.first_id, last)]
        if filled:
            _remember(state, last, record)
            closed = tuple(entry.gap for entry in filled if not entry.missing)
            state.gaps = [entry for entry in state.gaps if entry.missing]
            return GapFilled(closed)
        state.low_run = state.low_run + 1 if item.first_id == state.low_id + 1 else 1
        state.low_id = last
        if state.low_run >= _RESET_RUN and last < state.last_id // 2:
            previous = state.last_id
            state.last_id, state.last_time, state.low_run = last, record.timestamp, 0
            state.recent.clear()
            _remember(state, last, record)
            return SequenceReset(previous)
        return _DUPLICATE

    def _add(self, state: _Symbol) -> None:
        if len(self._symbols) >= self._capacity:
            oldest = min(self._symbols.values(), key=lambda other: other.last_time)
            del self._symbols[oldest.pair.symbol]
        self._symbols[state.pair.symbol] = state


def _remember(state: _Symbol, number: int, record: Record) -> None:
    recent = state.recent
    recent[number] = record.fingerprint
    if len(recent) > _RECENT_IDS:
        del recent[next(iter(recent))]
