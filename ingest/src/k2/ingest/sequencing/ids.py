"""Sequence tracking for exchanges that number their records. Pure: fed with records in order of arrival.

An id that jumps ahead leaves a gap, which a later record may still fill. An id received before is a duplicate if its
content is the same, and a conflict otherwise.

An exchange that lists a symbol again restarts its ids. Ids far below the last one, with later times, may show that:
such records are suspended until three consecutive ones prove the next listing, or until the old sequence goes on.
So are ids further ahead of the last one than a symbol can have traded since: three consecutive ones prove that the
sequence goes on there. A single one proves nothing and moves nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from k2.ingest.exchanges.base import NO_ID, Gap, SequencedRecord
from k2.ingest.sequencing.open_gaps import Fingerprint, OpenGaps
from k2.ingest.sequencing.plausibility import MOST_AHEAD, exchange_time, too_far
from k2.ingest.sequencing.tracker import (
    Conflict,
    Coverage,
    Duplicate,
    Finding,
    GapDetected,
    GapFilled,
    IdRange,
    Misnumbered,
    Position,
    SequenceJump,
    SequenceReset,
    Superseded,
    Suspended,
)
from k2.schemas.channels import Record
from k2.schemas.exchanges.spec import Pair

_RECENT_IDS: Final = 256  # fingerprints per symbol, at least; exchanges repeat at most 50 records
_RESET_RUN: Final = 3  # this many consecutive ids far from the last one, with later times, are a new sequence
_MOST_SUSPENDED: Final = 32  # records per symbol
_TIME_PRECISION: Final = 1_000  # microseconds; an exchange's sources may differ below it, and Silver compares the rest

_DUPLICATE, _CONFLICT, _SUPERSEDED, _MISNUMBERED = Duplicate(), Conflict(), Superseded(), Misnumbered()
_RUN_BEGINS, _RUN_GOES_ON = Suspended(begins=True), Suspended(begins=False)


@dataclass(slots=True)
class _Run:
    """Suspended records: ascending ids with rising times."""

    first_id: int
    first_time: int
    last_id: int
    last_time: int
    contents: dict[int, Fingerprint]
    consecutive: int = 1  # the newest of them whose ids follow on each other
    size: int = 1  # repeats included


@dataclass(slots=True)
class _Symbol:
    """The tracking state of one symbol."""

    pair: Pair
    last_id: int
    last_time: int
    newest_time: int = field(init=False)  # the latest of all times; ids and times do not always rise together
    head_time: int = 0  # when the newest id was last reported, by this machine's clock, which may be wrong
    listing: int = 1
    listed_at: int = 0  # the time of the listing's first record; 0 if it began before this process
    recent: dict[int, Fingerprint] = field(default_factory=dict)
    gaps: OpenGaps = field(default_factory=OpenGaps)
    run: _Run | None = None
    aggregates: bool = False  # whether a record covered several ids, whose contents alone are then unknown
    only_id: int = NO_ID  # the id with which tracking began without any position; nothing vouches for it
    jump: int = NO_ID  # the id at which the sequence is proved to go on

    def __post_init__(self) -> None:
        self.newest_time = self.last_time


class SequenceTracker:
    """Track the ids of every symbol. Beyond `capacity` symbols, the one with the oldest last record is evicted."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._symbols: dict[str, _Symbol] = {}
        self._listings: dict[str, int] = {}

    @property
    def listings(self) -> Mapping[str, int]:
        """The number of each symbol's current listing, of those symbols whose first it is not. Always the same map."""
        return self._listings

    def resume(self, pair: Pair, position: Position, waiting: Sequence[str] = ()) -> None:
        """Continue after the newest record that any process delivered, or after a newer one that this one did."""
        if not position.record_id.isdigit():
            return  # of a protocol without ids
        resumed = _Symbol(pair, int(position.record_id), position.timestamp, listing=position.listing)
        if (state := self._symbols.get(pair.symbol)) is not None:
            if (state.listing, state.last_id) >= (resumed.listing, resumed.last_id):
                return
            resumed.gaps, resumed.recent, resumed.aggregates = state.gaps, state.recent, state.aggregates
            if resumed.listing > state.listing:
                resumed.recent = {}
        self._add(resumed)
        if position.listing > 1:
            self._listings[pair.symbol] = position.listing

    def observe(self, pair: Pair, item: SequencedRecord) -> Finding | None:
        """Take the next record. Return what it reveals; None if it follows the last one."""
        record = item.record
        last = item.last_id
        timestamp = record.timestamp
        if timestamp > record.ingestion_timestamp + MOST_AHEAD:
            timestamp = record.ingestion_timestamp
        state = self._symbols.get(record.symbol)
        if state is None:
            state = _Symbol(pair, last, timestamp, listing=self._listings.get(record.symbol, 1), only_id=last)
            self._add(state)
            _remember(state, last, record)
            return None
        expected = state.last_id + 1
        first = item.first_id
        if first != last:
            state.aggregates = True
        if last < expected:
            return self._observe_old(state, item, timestamp)
        since = 0
        if last > expected:
            if first > expected and timestamp < state.listed_at:
                return _SUPERSEDED
            if last != state.jump and too_far(last - state.last_id, timestamp - state.newest_time):
                return self._suspend(state, item, timestamp)
            since = _since(state)
        state.last_id = last
        state.last_time = timestamp
        if timestamp > state.newest_time:  # noqa: PLR1730 - for every record, and `max` takes three times as long
            state.newest_time = timestamp
        _remember(state, last, record)
        if first <= expected:
            return None
        return self._open(state, expected, first - 1, since, timestamp)

    def settle(self, pair: Pair, item: SequencedRecord) -> Finding:
        """Take a suspended record that belongs to no new listing. Return what it is under the current one."""
        state = self._symbols.get(pair.symbol)
        if state is None:
            return _DUPLICATE
        if state.run is not None and item.last_id in state.run.contents:
            state.run = None  # and not another run, which began after this record
        return _MISNUMBERED if item.last_id > state.last_id else self._classify(state, item)

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Take the id of a dead letter, so that it does not count as missing. Return a gap before it."""
        state = self._symbols.get(pair.symbol)
        if state is None:
            return None
        if last_id <= state.last_id or too_far(last_id - state.last_id, received - state.newest_time):
            if state.run is None or last_id != state.run.last_id + 1:
                return None
            state.run.last_id = last_id
            return _RUN_GOES_ON
        expected = state.last_id + 1
        state.last_id = last_id
        if last_id == expected:
            return None
        return self._open(state, expected, last_id - 1, _since(state), received)

    def observe_head(self, symbol: str, newest_id: int, received: int) -> GapDetected | Misnumbered | None:
        """Take the id that the exchange reports as its newest. Return the gap up to and including it."""
        state = self._symbols.get(symbol)
        if state is None or newest_id <= state.last_id:
            return None
        if too_far(newest_id - state.last_id, received - state.newest_time):
            return _MISNUMBERED
        expected, since, state.last_id = state.last_id + 1, _since(state), newest_id
        state.head_time = max(state.head_time, received)  # the missing records are older
        return self._open(state, expected, newest_id, since, received)

    def fill(self, gap: Gap, item: SequencedRecord) -> bool:
        """Take a backfilled record. Return False if it had arrived in the meantime, or is of a later listing."""
        state = self._symbols.get(gap.pair.symbol)
        if state is None:
            return True
        timestamp = exchange_time(item.record)
        if gap.listing < state.listing and timestamp > gap.until + MOST_AHEAD:
            return False
        if gap.listing == state.listing and timestamp > state.newest_time:
            state.newest_time = timestamp
        state.gaps.note_neighbour(gap.listing, item.last_id, _content(item.record))
        return bool(state.gaps.fill(gap.listing, item.first_id, item.last_id))

    def missing(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return the id ranges of a gap that have not arrived; empty once it is complete."""
        state = self._symbols.get(gap.pair.symbol)
        return state.gaps.missing(gap) if state else ()

    def unissued(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return the id ranges of a gap that are judged as never issued and have not come."""
        state = self._symbols.get(gap.pair.symbol)
        return state.gaps.missing(gap, closed=True) if state else ()

    def coverage(self, gap: Gap, row_ids: Sequence[str]) -> Coverage:
        """Return nothing proved: no gap is a window."""
        return Coverage(overlaps=False, reaches=False, complete=True)

    def knows(self, gap: Gap, number: int) -> bool:
        """Return whether the content of the record with an id next to a gap is known."""
        return self._content_of(gap, number) is not None

    def known_before(self, gap: Gap, number: int, but: Collection[int] = ()) -> tuple[int, int] | None:
        """Return the newest id up to `number`, none of `but`, whose content is known, and a time near its record.

        A gap that begins where another one ended, because the exchange named a newest id twice, has no known neighbour.
        """
        state = self._symbols.get(gap.pair.symbol)
        return state.gaps.newest_known(gap, number, self._known(gap, but)) if state else None

    def known_after(self, gap: Gap, number: int, but: Collection[int] = ()) -> int | None:
        """Return the lowest id from `number` on, none of `but`, whose content is known; None if there is none."""
        return min((recorded for recorded in self._known(gap, but) if recorded >= number), default=None)

    def matches(self, gap: Gap, item: SequencedRecord) -> bool | None:
        """Return whether the id of a backfilled record arrived with the same content; None if that is not known."""
        received = self._content_of(gap, item.last_id)
        if received is None:
            return None
        # A history may have the same time with other digits than the stream.
        fingerprint, time = item.record.fingerprint, item.record.timestamp
        times = {other // _TIME_PRECISION for other in (time - 1, time, time + 1)}
        return any(received == fingerprint ^ other for other in times)

    def _known(self, gap: Gap, but: Collection[int]) -> set[int]:
        """Return the ids of a gap's listing whose content is known, but some."""
        state = self._symbols.get(gap.pair.symbol)
        if state is None or state.aggregates:
            return set()
        ids = state.gaps.neighbours(gap.listing)
        return (ids | state.recent.keys() if gap.listing == state.listing else ids) - set(but)

    def _content_of(self, gap: Gap, number: int) -> Fingerprint | None:
        state = self._symbols.get(gap.pair.symbol)
        if state is None or state.aggregates:
            return None
        if gap.listing == state.listing and number in state.recent:
            return state.recent[number]
        return state.gaps.content_of(gap.listing, number)

    def account(self, gap: Gap, first_id: int, last_id: int) -> None:
        """Take the ids of a gap that only came as dead letters, so that they do not count as missing."""
        if state := self._symbols.get(gap.pair.symbol):
            state.gaps.account(gap, first_id, last_id)

    def keep_revocable(self, gap: Gap, missing: Sequence[IdRange]) -> None:
        """Watch ids of a closed gap that were judged as never issued: a record with one of them revokes that."""
        state = self._symbols.get(gap.pair.symbol)
        if state is not None and missing:
            state.gaps.watch(gap, missing)

    def close(self, gap: Gap) -> tuple[IdRange, ...]:
        """Stop tracking a gap. Return the id ranges that never arrived."""
        missing = self.missing(gap)
        if state := self._symbols.get(gap.pair.symbol):
            state.gaps.close(gap)
        return missing

    def on_disconnect(self, symbols: Iterable[str]) -> None:
        """Do nothing: the ids show what was missed."""

    def reopen(self, gap: Gap) -> None:
        """Track a gap that an earlier process detected and did not close."""
        state = self._symbols.get(gap.pair.symbol)
        if state is None:
            self._add(state := _Symbol(gap.pair, gap.last_id, gap.until, listing=gap.listing))
            if gap.listing > 1:
                self._listings[gap.pair.symbol] = gap.listing
        state.gaps.open(gap)

    @staticmethod
    def _open(state: _Symbol, first: int, last: int, since: int, until: int) -> GapDetected:
        # A time that is wrong must not age the gap: it would be given up at once.
        gap = Gap(state.pair, first, last, since, max(since, until), listing=state.listing)
        neighbours = {number: state.recent[number] for number in (first - 1, last + 1) if number in state.recent}
        state.gaps.open(gap, neighbours)
        return GapDetected(gap)

    def _observe_old(self, state: _Symbol, item: SequencedRecord, timestamp: int) -> Finding:
        """Take a record whose id is not above the last one: of the next listing, or as `_classify` says."""
        last, run = item.last_id, state.run
        far_below = last <= max(state.last_id - _RECENT_IDS, state.last_id // 2)
        newest_time = max(state.newest_time, state.head_time)
        if timestamp <= newest_time or not (far_below or (run and item.first_id == run.last_id + 1)):
            return self._classify(state, item)
        if state.recent.get(last) == _content(item.record) or any(
            entry.contains(last) and (timestamp <= entry.gap.until + MOST_AHEAD or item.first_id - 1 in state.recent)
            for entry in state.gaps.of_listing(state.listing)
        ):
            return self._classify(state, item)
        return self._suspend(state, item, timestamp)

    def _suspend(self, state: _Symbol, item: SequencedRecord, timestamp: int) -> Finding:
        """Take a record whose id is far from the last one: it waits until others follow on it, or on the last one."""
        last, run = item.last_id, state.run
        content = _content(item.record)
        if run is not None and run.size < _MOST_SUSPENDED:
            if run.contents.get(last) == content:
                run.size += 1
                return _RUN_GOES_ON
            ascends = item.first_id > run.last_id and timestamp >= run.last_time
            if ascends and not too_far(last - run.last_id, timestamp - run.last_time):
                return self._continue(state, run, item, timestamp)
        state.run = _Run(last, timestamp, last, timestamp, {last: content})
        return _RUN_BEGINS

    def _continue(self, state: _Symbol, run: _Run, item: SequencedRecord, timestamp: int) -> Finding:
        """Add a record to the suspended ones. Begin the next sequence if that proves it."""
        last = item.last_id
        run.consecutive = run.consecutive + 1 if item.first_id == run.last_id + 1 else 1
        run.last_id, run.last_time, run.size = last, timestamp, run.size + 1
        run.contents[last] = _content(item.record)
        if run.consecutive < _RESET_RUN:
            return _RUN_GOES_ON
        previous, state.run = state.last_id, None
        # A listing begins at id 0 or 1. Ids that are too high for that may have begun anywhere: nothing is known to be
        # missing before them.
        midway = too_far(run.first_id, run.first_time - state.newest_time)
        if previous == state.only_id and (midway or run.first_id > previous):  # nor that the only id before was true
            state.last_id, state.only_id = run.first_id - 1, NO_ID
            return SequenceJump(previous, run.first_id)
        if run.first_id > previous:
            state.jump = run.first_id
            return SequenceJump(previous, run.first_id)
        # Whether an exchange numbers from 0 or from 1 is not known, so an id 0 that was not seen is not missing.
        state.last_id = run.first_id - 1 if midway else min(0, run.first_id - 1)
        state.last_time, state.listed_at = state.newest_time, run.first_time
        state.listing += 1
        state.recent.clear()
        self._listings[state.pair.symbol] = state.listing
        return SequenceReset(previous, state.listing)

    @staticmethod
    def _classify(state: _Symbol, item: SequencedRecord) -> Finding:
        """Classify a record of the current listing whose id is not above the last one: repeat, conflict or late."""
        record, last = item.record, item.last_id
        recorded = state.recent.get(last)
        if recorded is not None:
            return _DUPLICATE if recorded == _content(record) else _CONFLICT
        filled = state.gaps.fill(state.listing, item.first_id, last)
        if not filled:
            return _DUPLICATE
        _remember(state, last, record)
        complete = tuple(entry.gap for entry in filled if not entry.missing)
        state.gaps.forget_complete()
        return GapFilled(complete, tuple(entry.gap for entry in filled if entry.closed and entry.missing))

    def _add(self, state: _Symbol) -> None:
        if len(self._symbols) >= self._capacity:
            oldest = min(self._symbols.values(), key=lambda other: other.last_time)
            del self._symbols[oldest.pair.symbol]
        self._symbols[state.pair.symbol] = state


def _since(state: _Symbol) -> int:
    """Return when the record before a gap was traded, or a bound for it if that time is far too early to be true."""
    return max(state.last_time, state.newest_time - MOST_AHEAD)


def _content(record: Record) -> Fingerprint:
    return record.fingerprint ^ record.timestamp // _TIME_PRECISION


def _remember(state: _Symbol, number: int, record: Record) -> None:
    recent = state.recent
    recent[number] = record.fingerprint ^ record.timestamp // _TIME_PRECISION
    if len(recent) > 2 * _RECENT_IDS:  # many at once: the first entry of a dictionary is behind all deleted ones
        for oldest in list(islice(recent, _RECENT_IDS)):
            del recent[oldest]
    if state.gaps.entries:
        state.gaps.note_neighbour(state.listing, number, recent[number])
