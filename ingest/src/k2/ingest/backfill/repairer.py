"""The gap repairer: fetches missing records over REST, publishes them with `source=backfill` and closes the gap."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from k2.common import logs
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges.base import Adapter, Gap, MalformedFrame, Page, Request, RestRefused
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.pipeline import Pipeline
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.sequencing.tracker import Tracker
from k2.ingest.telemetry.stats import Stats
from k2.schemas.states import GapState

log = logs.get("repair")

# The REST history may lag behind the stream, so retry before ids are declared missing.
_RETRY_DELAYS: Final = (2.0, 10.0, 30.0)
_UNREACHABLE_PAUSE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The repair policy of a feed, `spec.ingest.backfill`. `max_gap` is in seconds of exchange time."""

    enabled: bool
    max_gap: float


class Repairer:
    """Repair the gaps of the ledger's queue, one at a time."""

    def __init__(
        self,
        adapter: Adapter,
        client: RestClient,
        policy: Policy,
        tracker: Tracker,
        ledger: GapLedger,
        pipeline: Pipeline,
        publisher: Publisher,
        stats: Stats,
    ) -> None:
        self._adapter = adapter
        self._client = client
        self._policy = policy
        self._tracker = tracker
        self._ledger = ledger
        self._pipeline = pipeline
        self._publisher = publisher
        self._stats = stats

    async def run(self) -> None:
        """Repair gaps until cancelled."""
        while True:
            gap = await self._ledger.repairs.get()
            try:
                await self._repair(gap)
            except RestUnreachable as error:
                self._stats.errors["rest_unreachable"] += 1
                log.warning("history unreachable, gap stays open", symbol=gap.pair.symbol, error=str(error))
                asyncio.get_running_loop().call_later(_UNREACHABLE_PAUSE, self._ledger.repairs.put_nowait, gap)

    async def _repair(self, gap: Gap) -> None:
        if not self._tracker.missing(gap):
            return  # late records completed it, and the pipeline closed it
        if not self._policy.enabled:
            await self._close_gap(gap, GapState.UNRECOVERABLE, "backfill is disabled")
            return
        if gap.until - gap.since > self._policy.max_gap * 1e6:
            await self._close_gap(gap, GapState.UNRECOVERABLE, "longer than spec.ingest.backfill.maxGap")
            return
        for pause in (*_RETRY_DELAYS, None):
            try:
                overlaps_all = await self._fetch(gap)
            except (RestRefused, MalformedFrame) as error:
                self._stats.errors["rest_refused"] += 1
                await self._close_gap(gap, GapState.UNRECOVERABLE, f"rest: {error}"[:200])
                return
            missing = self._tracker.missing(gap)
            if not missing or gap.is_window or pause is None:
                break
            await asyncio.sleep(pause)
        await self._finish(gap, overlaps_all=overlaps_all)

    async def _fetch(self, gap: Gap) -> bool:
        """Publish the records of the gap found in the history. Return whether the history reached back far enough."""
        request, overlaps_all = self._adapter.history_request(gap), True
        while True:
            page = await self._page(request, gap)
            records = [entry.record for entry in page.records if self._tracker.fill(gap, entry)]
            if gap.listing > 1:
                records = [record.in_listing(gap.listing) for record in records]
            await self._publisher.wait_unblocked()
            await asyncio.gather(*[self._publisher.send_acked(record) for record in records])
            self._stats.sources["backfill"] += len(records)
            overlaps_all = overlaps_all and page.overlaps
            if page.next_request is None:
                return overlaps_all
            request = page.next_request

    async def _page(self, request: Request, gap: Gap) -> Page:
        def read(body: bytes) -> Page:
            page = self._adapter.parse_page(request, body, gap, time.time_ns() // 1000)
            if page.invalid:
                self._pipeline.dead_letter_items(body, page.invalid)
            return page

        return await self._client.fetch(request, read)

    async def _finish(self, gap: Gap, *, overlaps_all: bool) -> None:
        missing = self._tracker.close(gap)
        if missing and not gap.is_window:
            count = sum(last - first + 1 for first, last in missing)
            await self._close_gap(gap, GapState.UNRECOVERABLE, f"rest: {count} ids are not in the exchange's history")
        elif not overlaps_all:
            await self._close_gap(gap, GapState.UNRECOVERABLE, "overlap: the history began after the gap")
        else:
            await self._close_gap(gap, GapState.REPAIRED, "overlap" if gap.is_window else "rest")

    async def _close_gap(self, gap: Gap, state: GapState, resolution: str) -> None:
        self._tracker.close(gap)
        if (event := self._ledger.close(gap, state, resolution)) is not None:
            await event
