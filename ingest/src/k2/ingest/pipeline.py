"""The path of a frame: parse it, check the sequence of its records, send them to Kafka in order.

A gap event is acknowledged by Kafka before any later record is sent; until then, frames wait. A process that dies in
between leaves either no later record or an open gap that the next process repairs.

Records that may belong to a symbol's next listing, or whose ids are far ahead, are held back until the tracker knows:
sent under the wrong listing, they would have the ids of other records; and a wrong id cannot be taken back.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from k2.common import logs
from k2.ingest import dead_letters
from k2.ingest.exchanges.base import (
    MALFORMED,
    NO_ID,
    Adapter,
    Closing,
    Event,
    Gap,
    Heartbeat,
    InvalidItem,
    MalformedFrame,
    Refused,
    Resubscribe,
    SequencedRecord,
    StateSource,
    Subscribed,
    Unfit,
    Unknown,
    Unsubscribed,
)
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.sequencing.plausibility import exchange_time
from k2.ingest.sequencing.tracker import (
    Conflict,
    Duplicate,
    Finding,
    GapDetected,
    GapFilled,
    Misnumbered,
    SequenceJump,
    SequenceReset,
    StateRestored,
    Superseded,
    Suspended,
    Tracker,
)
from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import Record
from k2.schemas.exchanges.spec import Pair
from k2.schemas.states import GapReason, GapState

log = logs.get("pipeline")

ID_CONFLICT: Final = "ID_CONFLICT"
IMPLAUSIBLE_ID: Final = "IMPLAUSIBLE_ID"
_MOST_KINDS: Final = 100

_Suspended = tuple[SequencedRecord | InvalidItem, bytes, int]  # and its frame, and when that was received


class ConnectionHandle(Protocol):
    """The connection a frame was read from."""

    adapter: Adapter
    lane: int  # the number of the connection among those that the shard holds at once
    unseen: set[str]  # the symbols without a record on this connection; the pipeline removes those that it sees

    @property
    def pairs(self) -> Sequence[Pair]:
        """The pairs that are wanted on this connection and not refused."""
        ...

    def subscribed(self, event: Subscribed) -> None:
        """Take an acknowledgement."""

    def unsubscribed(self, event: Unsubscribed) -> None:
        """Take the end of a subscription."""

    def refused(self, event: Refused) -> None:
        """Take a refusal."""

    def disproved(self, raw_symbol: str, reason: str) -> None:
        """Take a REST answer that the exchange has no such symbol."""

    def renew(self, raw_symbol: str) -> None:
        """Unsubscribe a symbol and subscribe it again."""

    def unfit(self, raw_symbol: str, reason: str) -> None:
        """Take the adapter's finding that a symbol cannot be recorded."""

    def closing(self, event: Closing) -> None:
        """Take an announcement that the exchange will close the connection."""


class Pipeline:
    """Process the frames of all connections of one shard."""

    def __init__(
        self, pairs: Iterable[Pair], tracker: Tracker, publisher: Publisher, ledger: GapLedger, stats: Stats
    ) -> None:
        self._pairs = {pair.symbol: pair for pair in pairs}
        self._tracker = tracker
        self._publisher = publisher
        self._ledger = ledger
        self._stats = stats
        self.barrier: Awaitable[None] | None = None  # if there is one, await `settle` before the next frame is read
        self._backlog: deque[Callable[[], None]] = deque()
        self._record_after_gap: Record | None = None
        self._listings = tracker.listings
        self._suspended: dict[str, list[_Suspended]] = {}  # suspended records by symbol
        self._held: dict[str, list[_Suspended]] = {}  # records of symbols that are being taken up
        self._lock = asyncio.Lock()
        self._unknown_kinds: set[str] = set()  # logged once each

    @property
    def pairs(self) -> Mapping[str, Pair]:
        """The symbols that are or were wanted, by their normalised name."""
        return self._pairs

    def set_pairs(self, pairs: Iterable[Pair]) -> None:
        """Replace the wanted symbols. Records of a symbol that is no longer wanted may still be on their way."""
        self._pairs |= {pair.symbol: pair for pair in pairs}

    def hold(self, symbols: Iterable[str]) -> None:
        """Let the records of some symbols wait until `release` or `drop_held`."""
        self._held |= {symbol: [] for symbol in symbols}

    def held_ids(self, symbols: Iterable[str]) -> dict[str, list[str]]:
        """Return the ids of the records that wait, in order of arrival."""
        return {
            symbol: [item.record.record_id for item, *_ in self._held[symbol] if isinstance(item, SequencedRecord)]
            for symbol in symbols
        }

    def release(self, symbols: Iterable[str]) -> None:
        """Process the records that wait, before the frames that do: they came earlier. Await `settle` afterwards."""
        rest = deque(entry for symbol in symbols for entry in self._held.pop(symbol))
        self._backlog.appendleft(partial(self._observe_again, rest))
        if self.barrier is None:
            self._process_backlog()

    def drop_held(self, symbols: Iterable[str]) -> None:
        """Forget the records that wait. The next process resumes before them."""
        for symbol in symbols:
            self._held.pop(symbol, None)

    def handle(self, frame: bytes, received: int, link: ConnectionHandle) -> None:
        """Process one text frame; `received` is when it was read from the socket, in UTC microseconds."""
        waits = self.barrier is not None
        if waits:
            self._backlog.append(partial(self.handle, frame, received, link))
            return
        try:
            events = link.adapter.parse(frame, received)
        except MalformedFrame as error:
            self.dead_letter(frame, MALFORMED, str(error))
            return
        if unseen := link.unseen:
            unseen.difference_update([event.record.symbol for event in events if type(event) is SequencedRecord])
        rest = iter(events)
        for event in rest:
            if type(event) is not SequencedRecord:
                self._process(frame, received, link, [event, *rest])
                return
            self._on_record(event, frame)
            if self.barrier is not None:
                self._backlog.append(partial(self._process, frame, received, link, list(rest)))
                return

    def handle_snapshot(self, events: Sequence[Event], body: bytes, received: int, link: ConnectionHandle) -> None:
        """Process the events of a REST response, behind the frames that wait. Await `settle` afterwards."""
        self._backlog.append(partial(self._process, body, received, link, events))
        if self.barrier is None:
            self._process_backlog()

    def handle_state(self, pair: Pair, body: bytes, received: int, link: ConnectionHandle) -> None:
        """Process the state of a pair over REST, behind the frames that wait. Await `settle` afterwards."""
        self._backlog.append(partial(self._on_state, pair, body, received, link))
        if self.barrier is None:
            self._process_backlog()

    def interrupt(self, symbols: Iterable[str]) -> None:
        """Take note, behind the frames that wait, that these subscriptions ended: they came before it."""
        if self.barrier is None:
            self._tracker.on_disconnect(symbols)
        else:
            self._backlog.append(partial(self._tracker.on_disconnect, tuple(symbols)))

    async def settle(self) -> None:
        """Wait until Kafka acknowledges the gap event, then process the backlog behind it."""
        async with self._lock:
            while (barrier := self.barrier) is not None:
                await asyncio.shield(barrier)  # a waiter that is cancelled must not end the wait of others
                self.barrier = None
                if (record := self._record_after_gap) is not None:
                    self._record_after_gap = None
                    self._publisher.send(record)
                self._process_backlog()

    def give_up_suspended(self) -> int:
        """Dead-letter the frames of all suspended records, because no more records will come. Return their number.

        If they began a listing or a jump, the next process finds their ids missing and fetches them.
        """
        frames = {
            frame: item.record
            for items in self._suspended.values()
            for item, frame, _ in items
            if isinstance(item, SequencedRecord)
        }
        self._suspended.clear()
        for frame, record in frames.items():
            reason = f"id {record.record_id} may begin a new sequence of {record.symbol}; stopped before that was known"
            self.dead_letter(frame, ID_CONFLICT, reason, record.symbol)
        return len(frames)

    def dead_letter(self, frame: bytes, error: str, reason: str, symbol: str = "") -> None:
        """Send a frame that is invalid as a whole to the dead-letter topic."""
        self._stats.errors[error.lower()] += 1
        log.warning("dead letter", error=error, reason=reason, symbol=symbol, bytes=len(frame))
        self._publisher.send_dead_letter(frame, error, reason, symbol)

    def dead_letter_items(self, frame: bytes, items: Sequence[InvalidItem]) -> None:
        """Send a frame, or the body of a REST response, to the dead-letter topic once, with its invalid items."""
        error, reason, symbol = items[0].error, dead_letters.reason_of(items), dead_letters.symbol_of(items)
        for item in items:
            self._stats.errors[item.error.lower()] += 1
        log.warning("dead letter", error=error, reason=reason, symbol=symbol, bytes=len(frame), items=len(items))
        self._publisher.send_dead_letter(frame, error, reason, symbol, dead_letters.encode_items(items))

    def _process_backlog(self) -> None:
        backlog, self._backlog = self._backlog, deque()
        while backlog and self.barrier is None:
            backlog.popleft()()
        self._backlog.extend(backlog)

    def _on_state(self, pair: Pair, body: bytes, received: int, link: ConnectionHandle) -> None:
        assert isinstance(link.adapter, StateSource)
        try:
            events = link.adapter.parse_state(pair, body, received)
        except MalformedFrame as error:
            self.dead_letter(body, MALFORMED, str(error), pair.symbol)
        else:
            self._process(body, received, link, events)

    def _process(self, frame: bytes, received: int, link: ConnectionHandle, events: Sequence[Event]) -> None:
        """Process the events of a frame, none of which was invalid so far."""
        if invalid := [event for event in events if type(event) is InvalidItem]:
            self.dead_letter_items(frame, invalid)
        self._resume(frame, received, link, deque(events))

    def _resume(self, frame: bytes, received: int, link: ConnectionHandle, rest: deque[Event]) -> None:
        while rest and self.barrier is None:
            event = rest.popleft()
            if type(event) is SequencedRecord:
                self._on_record(event, frame)
            else:
                self._control(event, frame, received, link)
        if rest:
            self._backlog.append(partial(self._resume, frame, received, link, rest))

    def _on_record(self, item: SequencedRecord, frame: bytes) -> None:
        record = item.record
        symbol = record.symbol
        if self._held and symbol in self._held:
            self._held[symbol].append((item, frame, 0))
            return
        finding = self._tracker.observe(self._pairs[symbol], item)
        if (finding is not None or self._suspended) and self._hold(finding, item, frame):
            return
        stats = self._stats
        stats.received[symbol] += 1
        stats.lag.observe(record.ingestion_timestamp - record.timestamp)
        stats.last_received = record.ingestion_timestamp
        stats.newest[symbol] = record
        if self._listings:
            record = self._in_listing(record, finding)
        if finding is None:
            self._publisher.send(record)
            return
        self._on_finding(finding, record, frame)

    def _in_listing(self, record: Record, finding: Finding | None) -> Record:
        listing = self._listings.get(record.symbol, 1)
        if type(finding) is Superseded:
            listing -= 1
        return record.in_listing(listing) if listing > 1 else record

    def _hold(self, finding: Finding | None, item: SequencedRecord, frame: bytes) -> bool:
        """Hold a suspended record back, or settle those of before. Return whether the record is dealt with."""
        record, symbol = item.record, item.record.symbol
        match finding:
            case Suspended(begins):
                if begins:
                    self._settle(symbol)
                self._suspended.setdefault(symbol, []).append((item, frame, 0))
                return True
            case SequenceReset(previous, listing):
                self._stats.errors["sequence_reset"] += 1
                log.warning("exchange restarted its ids", symbol=symbol, previous=previous, listing=listing)
                self._observe_again(deque([*self._suspended.pop(symbol, ()), (item, frame, 0)]))
                return True
            case SequenceJump(previous, first_id):
                self._stats.errors["sequence_jump"] += 1
                log.warning("ids go on elsewhere", symbol=symbol, previous=previous, first_id=first_id)
                self._observe_again(deque([*self._suspended.pop(symbol, ()), (item, frame, 0)]))
                return True
            case None | GapDetected():
                first = next((item for item, *_ in self._suspended.get(symbol, ())), None)
                if isinstance(first, SequencedRecord) and record.timestamp >= exchange_time(first.record):
                    self._settle(symbol)  # the old sequence goes on
        return False

    def _settle(self, symbol: str) -> None:
        """Send the suspended records of a symbol as what they are in its current sequence."""
        for item, frame, _ in self._suspended.pop(symbol, ()):
            if isinstance(item, InvalidItem):
                continue
            self._stats.received[symbol] += 1
            finding = self._tracker.settle(self._pairs[symbol], item)
            self._on_finding(finding, self._in_listing(item.record, finding), frame)

    def _observe_again(self, rest: deque[_Suspended]) -> None:
        """Process the records that proved a new sequence."""
        while rest and self.barrier is None:
            item, frame, received = rest.popleft()
            if isinstance(item, InvalidItem):
                self._skip(item, frame, received)
            else:
                self._on_record(item, frame)
        if rest:
            self._backlog.append(partial(self._observe_again, rest))

    def _on_finding(self, finding: Finding, record: Record, frame: bytes) -> None:
        match finding:
            case GapDetected(gap, over):
                self._record_after_gap = record
                self.barrier = self._ledger.open(gap)
                if over:
                    self._end_loss(gap)
                return
            case StateRestored(gap):
                self._end_loss(gap)
            case Conflict():
                reason = f"id {record.record_id} was received before with other content"
                self.dead_letter(frame, ID_CONFLICT, reason, record.symbol)
                return
            case Misnumbered():
                reason = f"id {record.record_id} is further ahead than {record.symbol} trades, and no others followed"
                self.dead_letter(frame, IMPLAUSIBLE_ID, reason, record.symbol)
                return
            case Duplicate():
                self._stats.duplicates[record.symbol] += 1
            case GapFilled(closed_gaps, revoked):
                for gap in closed_gaps:
                    self._close_filled(gap, record.source)
                for gap in revoked:
                    self._ledger.revoke(gap, self._tracker.unissued(gap))
        # Duplicates are sent too: Bronze stores every arrival, Gold stores each record once.
        self._publisher.send(record)

    def _end_loss(self, gap: Gap) -> None:
        resolution = "snapshot: the state is whole again, its changes in between are lost"
        self._ledger.close(gap, GapState.UNRECOVERABLE, resolution, GapReason.NO_HISTORY)

    def _close_filled(self, gap: Gap, source: str) -> None:
        self._tracker.close(gap)
        self._ledger.close(gap, GapState.REPAIRED, "snapshot" if source == "snapshot" else "late")

    def _control(self, event: Event, frame: bytes, received: int, link: ConnectionHandle) -> None:
        match event:
            case Heartbeat(symbol, last_id):
                self._observe_head(symbol, last_id, received)
            case InvalidItem():
                self._skip(event, frame, received)
            case Subscribed():
                link.subscribed(event)
            case Unsubscribed():
                link.unsubscribed(event)
            case Refused():
                self._stats.errors["refused"] += 1
                link.refused(event)
            case Closing():
                link.closing(event)
            case Resubscribe() | Unfit():
                self._on_stateless(event, link)
            case Unknown(kind):
                self._stats.errors["unknown_message"] += 1
                if kind not in self._unknown_kinds and len(self._unknown_kinds) < _MOST_KINDS:
                    self._unknown_kinds.add(kind)
                    log.info("unknown message", kind=kind, frame=frame[:200].decode(errors="replace"))

    def _on_stateless(self, event: Resubscribe | Unfit, link: ConnectionHandle) -> None:
        if isinstance(event, Unfit):
            self._stats.errors["unfit"] += 1
            link.unfit(event.raw_symbol, event.reason)
        else:
            self._stats.errors["state_lost"] += 1
            link.renew(event.raw_symbol)

    def _observe_head(self, symbol: str, newest_id: int, received: int) -> None:
        if symbol in self._held:  # the next one shows as much
            return
        match self._tracker.observe_head(symbol, newest_id, received):
            case GapDetected(gap):
                self.barrier = self._ledger.open(gap)
            case Misnumbered():
                self._stats.errors[IMPLAUSIBLE_ID.lower()] += 1
                log.warning("newest id too far ahead", symbol=symbol, newest_id=newest_id)

    def _skip(self, item: InvalidItem, frame: bytes, received: int) -> None:
        """Count the id of an invalid item as received."""
        pair = self._pairs.get(item.symbol)
        if pair is None or item.last_id == NO_ID:
            return
        if item.symbol in self._held:
            self._held[item.symbol].append((item, frame, received))
            return
        match self._tracker.skip(pair, item.last_id, received):
            case GapDetected(gap):
                self.barrier = self._ledger.open(gap)
            case Suspended():
                self._suspended[item.symbol].append((item, frame, received))
