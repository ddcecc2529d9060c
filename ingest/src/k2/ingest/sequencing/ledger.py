"""The gaps of one shard: each is written to Kafka when it is found and when it ends, and queued for repair."""

import asyncio
import time
from collections.abc import Awaitable

from k2.common import logs
from k2.ingest.exchanges.base import Gap
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.sequencing.gaps import GapEvent, GapState, closed, opened
from k2.ingest.telemetry.stats import Stats

log = logs.get("gaps")


class GapLedger:
    """Open gaps by what is missing."""

    def __init__(self, feed: str, exchange: str, publisher: Publisher, stats: Stats) -> None:
        self._feed = feed
        self._exchange = exchange
        self._publisher = publisher
        self._stats = stats
        self._events: dict[Gap, GapEvent] = {}
        self.repairs: asyncio.Queue[Gap] = asyncio.Queue()

    def open(self, gap: Gap) -> Awaitable[None]:
        """Records a gap just found; the result is there when Kafka knows of it."""
        event = opened(self._feed, self._exchange, gap, time.time_ns() // 1000)
        symbol = gap.pair.symbol
        self._stats.gaps_detected[symbol] += 1
        self._follow(gap, event)
        log.warning("gap", symbol=symbol, first_id=event.first_id, last_id=event.last_id, gap_id=event.gap_id)
        return self._publisher.gap(event)

    def reopen(self, gap: Gap, event: GapEvent) -> None:
        """Goes on with a gap that an earlier process found."""
        self._follow(gap, event)
        log.info("gap is still open", symbol=event.symbol, first_id=event.first_id, last_id=event.last_id)

    def close(self, gap: Gap, state: GapState, method: str) -> Awaitable[None] | None:
        """Records how a gap ended; None if it ended before."""
        event = self._events.pop(gap, None)
        if event is None:
            return None
        self._stats.gaps_open = len(self._events)
        counter = self._stats.gaps_repaired if state is GapState.REPAIRED else self._stats.gaps_unrecoverable
        counter[event.symbol] += 1
        log.info("gap ended", symbol=event.symbol, gap_id=event.gap_id, state=state.value, method=method)
        return self._publisher.gap(closed(event, state=state, method=method, at=time.time_ns() // 1000))

    def _follow(self, gap: Gap, event: GapEvent) -> None:
        self._events[gap] = event
        self._stats.gaps_open = len(self._events)
        self.repairs.put_nowait(gap)
