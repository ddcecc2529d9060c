"""The gap ledger of one shard: publishes every gap when it opens and closes, and queues it for repair."""

import asyncio
import time
from collections.abc import Awaitable

from k2.common import logs
from k2.ingest.exchanges.base import Gap
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.sequencing.gaps import GapEvent, close_event, open_event
from k2.ingest.telemetry.stats import Stats
from k2.schemas.states import GapState

log = logs.get("gaps")


class GapLedger:
    """Keep the open gaps and publish their state changes."""

    def __init__(self, feed: str, channel: str, exchange: str, publisher: Publisher, stats: Stats) -> None:
        self._feed = feed
        self._channel = channel
        self._exchange = exchange
        self._publisher = publisher
        self._stats = stats
        self._events: dict[Gap, GapEvent] = {}
        self.repairs: asyncio.Queue[Gap] = asyncio.Queue()

    def open(self, gap: Gap) -> Awaitable[None]:
        """Publish a new gap. The result completes when Kafka acknowledges its event."""
        event = open_event(self._feed, self._channel, self._exchange, gap, time.time_ns() // 1000)
        symbol = gap.pair.symbol
        self._stats.gaps_detected[symbol] += 1
        self._add(gap, event)
        log.warning("gap detected", symbol=symbol, first_id=event.first_id, last_id=event.last_id, gap_id=event.gap_id)
        return self._publisher.send_gap(event)

    def reopen(self, gap: Gap, event: GapEvent) -> None:
        """Continue with a gap that an earlier process opened."""
        self._add(gap, event)
        log.info("gap reopened", symbol=event.symbol, first_id=event.first_id, last_id=event.last_id)

    def close(self, gap: Gap, state: GapState, method: str) -> Awaitable[None] | None:
        """Publish how a gap ended. Return None if it was closed before."""
        event = self._events.pop(gap, None)
        if event is None:
            return None
        self._stats.gaps_open = len(self._events)
        counter = self._stats.gaps_repaired if state is GapState.REPAIRED else self._stats.gaps_unrecoverable
        counter[event.symbol] += 1
        log.info("gap closed", symbol=event.symbol, gap_id=event.gap_id, state=state.value, method=method)
        return self._publisher.send_gap(close_event(event, state=state, method=method, at=time.time_ns() // 1000))

    def _add(self, gap: Gap, event: GapEvent) -> None:
        self._events[gap] = event
        self._stats.gaps_open = len(self._events)
        self.repairs.put_nowait(gap)
