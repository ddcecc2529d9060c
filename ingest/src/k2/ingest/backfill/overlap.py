"""Compare what arrived with the newest trades over REST, where ids do not show what an open connection lost.

Only for exchanges without consecutive ids whose history is the newest trades of a symbol. A loss is found while it is
among them: each symbol is compared once a third of them are new, or some seconds after its newest trade. What is
found is a window like that of a reconnect.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from k2.common import logs
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges.base import NO_ID, Adapter, Gap, MalformedFrame, Page, RestRefused
from k2.ingest.sequencing.ledger import GapLedger, utc_micros
from k2.ingest.sequencing.reconnect_windows import ReconnectWindowTracker
from k2.ingest.telemetry.stats import Stats
from k2.schemas.exchanges.spec import Pair

log = logs.get("overlap")

_EVERY: Final = 0.25  # seconds between two looks for symbols that are due
_REST: Final = 10.0  # seconds after which a symbol is compared that has any new trade
_NEW: Final = 3  # one in so many rows of the history is new


class OverlapCheck:
    """Compare the symbols of one shard, the one with the most new trades first. `pairs` are by symbol."""

    def __init__(
        self,
        adapter: Adapter,
        client: RestClient,
        tracker: ReconnectWindowTracker,
        ledger: GapLedger,
        stats: Stats,
        pairs: Callable[[], Mapping[str, Pair]],
        *,
        now: Callable[[], int] = utc_micros,
    ) -> None:
        self._adapter, self._client, self._tracker, self._ledger = adapter, client, tracker, ledger
        self._stats, self._pairs, self._now = stats, pairs, now
        self._rows = client.answers.history.rows
        self._compared: dict[str, tuple[int, float]] = {}  # the records received by then, and when, by symbol

    async def run(self) -> None:
        """Compare until cancelled."""
        time = asyncio.get_running_loop().time
        while True:
            pair = self._due(time())
            if pair is None:
                await asyncio.sleep(_EVERY)
                continue
            self._compared[pair.symbol] = self._stats.received[pair.symbol], time()
            try:
                await self._compare(pair)
            except (RestRefused, RestUnreachable, MalformedFrame) as error:
                log.warning("not compared with the history", symbol=pair.raw_symbol, error=str(error))
                await asyncio.sleep(_EVERY)

    def _due(self, now: float) -> Pair | None:
        """Return the symbol that is due with the most new trades."""
        most, due = 0, None
        for symbol, pair in self._pairs().items():
            received, at = self._compared.setdefault(symbol, (0, now))
            new = self._stats.received.get(symbol, 0) - received
            if new > most and (new >= self._rows // _NEW or now - at >= _REST):
                most, due = new, pair
        return due

    async def _compare(self, pair: Pair) -> None:
        whole = Gap(pair, NO_ID, NO_ID, 0, self._now())
        request = self._adapter.history_request(whole)

        def read(body: bytes) -> Page:
            return self._adapter.parse_page(request, body, whole, self._now())

        page = await self._client.fetch_once(request, read)
        if not page.consistent:
            return
        gap = self._tracker.find_loss(pair, [item.record for item in page.records])
        if gap is not None:
            self._stats.errors["lost_on_open_connection"] += 1
            log.warning("trades did not arrive", symbol=pair.raw_symbol, after=gap.anchor)
            await self._ledger.open(gap)
