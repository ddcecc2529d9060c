"""The gap ledger of one shard: publishes every gap when it opens and closes, and queues it for repair."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from k2.common import logs
from k2.ingest.exchanges.base import Gap
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.sequencing.gaps import GapEvent, close_event, open_event, reopen_event
from k2.ingest.sequencing.tracker import IdRange
from k2.ingest.telemetry.stats import Stats
from k2.schemas.states import REVOKED_IN_PART, GapReason, GapState

log = logs.get("gaps")


def utc_micros() -> int:
    """Return the time in UTC microseconds."""
    return time.time_ns() // 1000


class GapLedger:
    """Keep the open gaps, and those whose verdict can be revoked, and publish their state changes.

    `protocol` is that of the feed's endpoints, `rules` the version of the rules by which gaps are given up. Gaps that
    are not `repairable` are not queued.
    """

    def __init__(
        self,
        feed: str,
        channel: str,
        exchange: str,
        publisher: Publisher,
        stats: Stats,
        *,
        protocol: str = "",
        rules: str = "",
        repairable: bool = True,
        now: Callable[[], int] = utc_micros,
    ) -> None:
        self._feed = feed
        self._channel = channel
        self._exchange = exchange
        self._publisher = publisher
        self._stats = stats
        self._protocol = protocol
        self._rules = rules
        self._repairable = repairable
        self._now = now
        self._events: dict[Gap, GapEvent] = {}
        self._revocable: dict[Gap, GapEvent] = {}  # gaps whose ids were never issued, unless they come after all
        self.repairs: asyncio.Queue[Gap] = asyncio.Queue()

    def has(self, gap: Gap) -> bool:
        """Return whether this process has a gap: open, or closed in a way that can be revoked."""
        return gap in self._events or gap in self._revocable

    def open(self, gap: Gap) -> Awaitable[None]:
        """Publish a new gap. The result completes when Kafka acknowledges its event."""
        event = open_event(self._feed, self._channel, self._exchange, gap, self._now(), self._protocol)
        symbol = gap.pair.symbol
        self._stats.gaps_detected[symbol] += 1
        self._add(gap, event)
        log.warning("gap detected", symbol=symbol, first_id=event.first_id, last_id=event.last_id, gap_id=event.gap_id)
        return self._publisher.send_gap(event)

    def reopen(self, gap: Gap, event: GapEvent) -> None:
        """Continue with a gap that an earlier process opened; one that it gave up is opened again."""
        if event.state is not GapState.OPEN:
            event = reopen_event(event, f"judged again, after: {event.resolution}")
            self._publisher.send_gap(event)
        self._add(gap, event)
        log.info("gap reopened", symbol=event.symbol, first_id=event.first_id, last_id=event.last_id)

    def recall(self, gap: Gap, event: GapEvent) -> None:
        """Remember a gap whose ids an earlier process judged as never issued."""
        self._revocable[gap] = event

    def close(
        self,
        gap: Gap,
        state: GapState,
        resolution: str,
        reason: GapReason | None = None,
        *,
        missing: Sequence[IdRange] = (),
        evidence: Sequence[str] = (),
    ) -> Awaitable[None] | None:
        """Publish how a gap ended. Return None if it was closed before and the verdict was final."""
        event = self._events.pop(gap, None)
        if event is None and (event := self._revocable.pop(gap, None)):
            resolution = f"{resolution}; it had been judged as never issued"
            evidence = tuple(event.evidence.split(",")) if event.evidence else ()
        if event is None:
            return None
        self._stats.gaps_open = len(self._events)
        self._counter(state)[event.symbol] += 1
        log.info("gap closed", symbol=event.symbol, gap_id=event.gap_id, state=state.value, resolution=resolution)
        closed = close_event(
            event, state=state, resolution=resolution, at=self._now(), reason=reason, rules=self._rules,
            missing=missing, evidence=evidence,
        )  # fmt: skip
        if state is GapState.NEVER_ISSUED:
            self._revocable[gap] = closed
        return self._publisher.send_gap(closed)

    def revoke(self, gap: Gap, missing: Sequence[IdRange]) -> None:
        """Publish that some ids of a gap came that were judged as never issued; `missing` are the others."""
        if (event := self._revocable.get(gap)) is None:
            return
        event = msgspec.structs.replace(event, missing=tuple(missing), resolution=REVOKED_IN_PART)
        self._revocable[gap] = event
        log.warning("ids came that were judged as never issued", symbol=event.symbol, gap_id=event.gap_id)
        self._publisher.send_gap(event)

    def _counter(self, state: GapState) -> dict[str, int]:
        counters = {GapState.REPAIRED: self._stats.gaps_repaired, GapState.NEVER_ISSUED: self._stats.gaps_never_issued}
        return counters.get(state, self._stats.gaps_unrecoverable)

    def _add(self, gap: Gap, event: GapEvent) -> None:
        self._events[gap] = event
        self._stats.gaps_open = len(self._events)
        if self._repairable:
            self.repairs.put_nowait(gap)
