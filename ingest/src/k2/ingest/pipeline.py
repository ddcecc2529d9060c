"""The path of a frame: parse it, check the sequence of its records, send them to Kafka in order.

A gap event is acknowledged by Kafka before any later record is sent; until then, frames wait. A process that dies in
between leaves either no later record or an open gap that the next process repairs.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

from k2.common import logs
from k2.ingest.exchanges.base import (
    MALFORMED,
    Adapter,
    Closing,
    Event,
    Gap,
    Heartbeat,
    InvalidItem,
    MalformedFrame,
    Refused,
    SequencedRecord,
    Subscribed,
    Unknown,
)
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.sequencing.tracker import Conflict, Duplicate, Finding, GapDetected, GapFilled, SequenceReset, Tracker
from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import Record
from k2.schemas.exchanges.spec import Pair
from k2.schemas.states import GapState

log = logs.get("pipeline")

ID_CONFLICT = "ID_CONFLICT"


class ConnectionHandle(Protocol):
    """The connection a frame was read from."""

    adapter: Adapter

    def subscribed(self, raw_symbols: Sequence[str]) -> None:
        """Record that the exchange accepted these symbols."""

    def refused(self, reason: str, raw_symbols: Sequence[str]) -> None:
        """Record that the exchange refused these symbols, or another request if none is named."""

    def closing(self, reason: str) -> None:
        """Record that the exchange announced to close the connection."""


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
        self._barrier: Awaitable[None] | None = None
        self._backlog: deque[tuple[bytes, int, ConnectionHandle, deque[Event] | None]] = deque()
        self._record_after_gap: Record | None = None
        self._lock = asyncio.Lock()

    @property
    def needs_settle(self) -> bool:
        """Whether `settle` must be awaited before the next frame is read."""
        return self._barrier is not None

    def handle(self, frame: bytes, received: int, link: ConnectionHandle) -> None:
        """Process one text frame; `received` is when it was read from the socket, in UTC microseconds."""
        if self._barrier is not None:
            self._backlog.append((frame, received, link, None))
            return
        try:
            events = link.adapter.parse(frame, received)
        except MalformedFrame as error:
            self.dead_letter(frame, MALFORMED, str(error))
            return
        for index, event in enumerate(events):
            if type(event) is SequencedRecord:
                self._on_record(event, frame)
            else:
                self._control(event, frame, received, link)
            if self.needs_settle:
                self._backlog.append((frame, received, link, deque(events[index + 1 :])))
                return

    def handle_snapshot(self, events: Sequence[Event], body: bytes, received: int, link: ConnectionHandle) -> None:
        """Process the events of a REST response, behind the frames that wait. Await `settle` afterwards."""
        self._backlog.append((body, received, link, deque(events)))
        if self._barrier is None:
            self._process_backlog()

    async def settle(self) -> None:
        """Wait until Kafka acknowledges the gap event, then process the backlog behind it."""
        async with self._lock:
            while (barrier := self._barrier) is not None:
                await barrier
                self._barrier = None
                if (record := self._record_after_gap) is not None:
                    self._record_after_gap = None
                    self._publisher.send(record)
                self._process_backlog()

    def dead_letter(self, frame: bytes, error: str, reason: str, symbol: str = "") -> None:
        """Send an invalid frame to the dead-letter topic."""
        self._stats.errors[error.lower()] += 1
        log.warning("dead letter", error=error, reason=reason, symbol=symbol, bytes=len(frame))
        self._publisher.send_dead_letter(frame, error, reason, symbol)

    def _process_backlog(self) -> None:
        backlog, self._backlog = self._backlog, deque()
        while backlog and self._barrier is None:
            self._resume(*backlog.popleft())
        self._backlog.extend(backlog)

    def _resume(self, frame: bytes, received: int, link: ConnectionHandle, rest: deque[Event] | None) -> None:
        if rest is None:
            self.handle(frame, received, link)
            return
        while rest and self._barrier is None:
            event = rest.popleft()
            if type(event) is SequencedRecord:
                self._on_record(event, frame)
            else:
                self._control(event, frame, received, link)
        if rest:
            self._backlog.append((frame, received, link, rest))

    def _on_record(self, item: SequencedRecord, frame: bytes) -> None:
        record = item.record
        symbol = record.symbol
        stats = self._stats
        stats.received[symbol] += 1
        stats.lag.observe(record.ingestion_timestamp - record.timestamp)
        stats.last_received = record.ingestion_timestamp
        stats.newest[symbol] = record
        finding = self._tracker.observe(self._pairs[symbol], item)
        if finding is None:
            self._publisher.send(record)
            return
        self._on_finding(finding, record, frame)

    def _on_finding(self, finding: Finding, record: Record, frame: bytes) -> None:
        match finding:
            case GapDetected(gap):
                self._record_after_gap = record
                self._barrier = self._ledger.open(gap)
                return
            case Conflict():
                reason = f"id {record.record_id} was received before with other content"
                self.dead_letter(frame, ID_CONFLICT, reason, record.symbol)
                return
            case Duplicate():
                self._stats.duplicates[record.symbol] += 1
            case GapFilled(closed_gaps):
                for gap in closed_gaps:
                    self._close_filled(gap, record.source)
            case SequenceReset(previous):
                self._stats.errors["sequence_reset"] += 1
                log.warning(
                    "sequence reset by the exchange", symbol=record.symbol, previous=previous, current=record.record_id
                )
        # Duplicates are sent too: Bronze stores every arrival, Gold stores each record once.
        self._publisher.send(record)

    def _close_filled(self, gap: Gap, source: str) -> None:
        self._tracker.close(gap)
        self._ledger.close(gap, GapState.REPAIRED, "snapshot" if source == "snapshot" else "late")

    def _control(self, event: Event, frame: bytes, received: int, link: ConnectionHandle) -> None:
        match event:
            case Heartbeat(symbol, last_id):
                if missing := self._tracker.observe_head(symbol, last_id, received):
                    self._barrier = self._ledger.open(missing.gap)
            case InvalidItem(error, reason, symbol, last_id):
                self.dead_letter(frame, error, reason, symbol)
                pair = self._pairs.get(symbol)
                if pair and last_id and isinstance(finding := self._tracker.skip(pair, last_id, received), GapDetected):
                    self._barrier = self._ledger.open(finding.gap)
            case Subscribed(raw_symbols):
                link.subscribed(raw_symbols)
            case Refused(reason, raw_symbols):
                self._stats.errors["refused"] += 1
                link.refused(reason, raw_symbols)
            case Closing(reason):
                link.closing(reason)
            case Unknown(kind):
                self._stats.errors["unknown_message"] += 1
                log.debug("unknown message", kind=kind)
