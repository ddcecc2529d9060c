"""What happens to a frame: parsed, its trades followed for continuity, and sent to Kafka in order.

A gap is on record in Kafka before anything that came after it: until its event is acknowledged, later frames wait.
A process that dies in between leaves either no later trade, or an open gap that the next one repairs.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

from k2.common import logs
from k2.ingest.exchanges.base import (
    MALFORMED,
    Closing,
    Event,
    Exchange,
    Gap,
    Heartbeat,
    MalformedFrame,
    SequencedTrade,
    Refused,
    Subscribed,
    Unknown,
    InvalidItem,
)
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.sequencing.gaps import GapState
from k2.ingest.sequencing.ids import Conflict, Duplicate, GapFilled, Finding, GapDetected, SequenceReset, Tracker
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.telemetry.stats import Stats
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Trade

log = logs.get("pipeline")

CONFLICTING = "CONFLICTING_TRADE"


class ConnectionHandle(Protocol):
    """The connection that a frame came from."""

    adapter: Exchange

    def subscribed(self, raw_symbols: Sequence[str]) -> None:
        """The exchange accepted these symbols."""

    def refused(self, reason: str, raw_symbols: Sequence[str]) -> None:
        """The exchange refused these symbols, or something else if none is named."""

    def closing(self, reason: str) -> None:
        """The exchange announced that it will close."""


class Pipeline:
    """Takes frames of any connection of one shard."""

    def __init__(
        self, pairs: Iterable[Pair], tracker: Tracker, publisher: Publisher, ledger: GapLedger, stats: Stats
    ) -> None:
        self._pairs = {pair.symbol: pair for pair in pairs}
        self._tracker = tracker
        self._publisher = publisher
        self._ledger = ledger
        self._stats = stats
        self._barrier: Awaitable[None] | None = None
        self._waiting: deque[tuple[bytes, int, ConnectionHandle, deque[Event] | None]] = deque()
        self._trade_after_gap: Trade | None = None
        self._lock = asyncio.Lock()

    @property
    def waiting(self) -> bool:
        """Whether `settle` must be awaited before the next frame is read."""
        return self._barrier is not None

    def handle(self, frame: bytes, received: int, link: ConnectionHandle) -> None:
        """Takes one text frame; `received` is when it left the socket, UTC microseconds."""
        if self._barrier is not None:
            self._waiting.append((frame, received, link, None))
            return
        try:
            events = link.adapter.parse(frame, received)
        except MalformedFrame as error:
            self.dead(frame, MALFORMED, str(error))
            return
        for index, event in enumerate(events):
            if type(event) is SequencedTrade:
                self._trade(event, frame)
            else:
                self._control(event, frame, received, link)
            if self.waiting:
                self._waiting.append((frame, received, link, deque(events[index + 1 :])))
                return

    def head(self, symbol: str, newest_id: int, received: int) -> None:
        """The exchange says that `newest_id` exists: what we lack up to it is a gap."""
        if self._barrier is None and (missing := self._tracker.head(symbol, newest_id, received)):
            self._barrier = self._ledger.open(missing.gap)

    async def settle(self) -> None:
        """Waits until Kafka knows of the gap, then goes on with what waited behind it."""
        async with self._lock:
            while (barrier := self._barrier) is not None:
                await barrier
                self._barrier = None
                if (trade := self._trade_after_gap) is not None:
                    self._trade_after_gap = None
                    self._publisher.trade(trade)
                waiting, self._waiting = self._waiting, deque()
                while waiting and self._barrier is None:
                    self._resume(*waiting.popleft())
                self._waiting.extend(waiting)

    def dead(self, frame: bytes, error: str, reason: str, symbol: str = "") -> None:
        """Keeps a frame that cannot be trusted."""
        self._stats.errors[error.lower()] += 1
        log.warning("dead letter", error=error, reason=reason, symbol=symbol, bytes=len(frame))
        self._publisher.dead_letter(frame, error, reason, symbol)

    def _resume(self, frame: bytes, received: int, link: ConnectionHandle, rest: deque[Event] | None) -> None:
        if rest is None:
            self.handle(frame, received, link)
            return
        while rest and self._barrier is None:
            event = rest.popleft()
            if type(event) is SequencedTrade:
                self._trade(event, frame)
            else:
                self._control(event, frame, received, link)
        if rest:
            self._waiting.append((frame, received, link, rest))

    def _trade(self, observed: SequencedTrade, frame: bytes) -> None:
        trade = observed.trade
        symbol = trade.symbol
        stats = self._stats
        stats.received[symbol] += 1
        stats.lag.observe(trade.ingestion_timestamp - trade.timestamp)
        stats.last_received = trade.ingestion_timestamp
        stats.last_prices[symbol] = trade.price
        finding = self._tracker.observe(self._pairs[symbol], observed)
        if finding is None:
            self._publisher.trade(trade)
            return
        self._on_finding(finding, trade, frame)

    def _on_finding(self, finding: Finding, trade: Trade, frame: bytes) -> None:
        match finding:
            case GapDetected(gap):
                self._trade_after_gap = trade
                self._barrier = self._ledger.open(gap)
                return
            case Conflict():
                reason = f"trade {trade.trade_id} came before with another price, quantity or side"
                self.dead(frame, CONFLICTING, reason, trade.symbol)
                return
            case Duplicate():
                self._stats.duplicates[trade.symbol] += 1
            case GapFilled(closed):
                source = dict(trade.vendor_data).get("source", "")
                for gap in closed:
                    self._close_filled(gap, source)
            case SequenceReset(was):
                self._stats.errors["sequence_reset"] += 1
                log.warning("the exchange numbers anew", symbol=trade.symbol, was=was, now=trade.trade_id)
        # Whatever was found, the record is kept: Bronze holds what came, Gold holds it once.
        self._publisher.trade(trade)

    def _close_filled(self, gap: Gap, source: str) -> None:
        self._tracker.settle(gap)
        self._ledger.close(gap, GapState.REPAIRED, "snapshot" if source == "snapshot" else "late")

    def _control(self, event: Event, frame: bytes, received: int, link: ConnectionHandle) -> None:
        match event:
            case Heartbeat(symbol, last_id):
                self.head(symbol, last_id, received)
            case InvalidItem(error, reason, symbol, last_id):
                self.dead(frame, error, reason, symbol)
                pair = self._pairs.get(symbol)
                if pair and last_id and isinstance(found := self._tracker.skip(pair, last_id, received), GapDetected):
                    self._barrier = self._ledger.open(found.gap)
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
