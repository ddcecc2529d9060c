"""Snapshots over REST: the state of every symbol, requested after each connect."""

import asyncio
import time
from collections.abc import Sequence

from k2.common import logs
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges.base import Event, MalformedFrame, RestRefused
from k2.ingest.pipeline import ConnectionHandle, Pipeline
from k2.ingest.telemetry.stats import Stats
from k2.schemas.exchanges.spec import Pair

log = logs.get("snapshots")


class Snapshots:
    """Request the snapshots of one shard; a newer connection cancels the requests of an older one."""

    def __init__(self, client: RestClient, pairs: Sequence[Pair], pipeline: Pipeline, stats: Stats) -> None:
        self._client = client
        self._pairs = pairs
        self._pipeline = pipeline
        self._stats = stats
        self._task: asyncio.Task[None] | None = None

    def restart(self, link: ConnectionHandle) -> None:
        """Start the requests of a connection that has subscribed."""
        self.cancel()
        self._task = asyncio.create_task(self.request_all(link))

    def cancel(self) -> None:
        """Cancel the running requests."""
        if self._task is not None:
            self._task.cancel()

    async def request_all(self, link: ConnectionHandle) -> None:
        """Request each pair's snapshot, one after the other, and process it once the stream has caught up with it."""
        async with asyncio.TaskGroup() as group:
            for pair in self._pairs:
                try:
                    snapshot = await self._request(pair, link)
                except RestRefused as error:
                    if error.unknown_symbol:
                        self._stats.refused[pair.raw_symbol] = str(error)
                    log.warning("snapshot refused", symbol=pair.raw_symbol, error=str(error))
                except (RestUnreachable, MalformedFrame) as error:
                    log.warning("snapshot failed", symbol=pair.raw_symbol, error=str(error))
                else:
                    group.create_task(self._process(*snapshot, link))

    async def _request(self, pair: Pair, link: ConnectionHandle) -> tuple[Sequence[Event], bytes]:
        def read(body: bytes) -> tuple[Sequence[Event], bytes]:
            return link.adapter.parse_snapshot(pair, body, time.time_ns() // 1000), body

        return await self._client.fetch(link.adapter.snapshot_request(pair), read)

    async def _process(self, events: Sequence[Event], body: bytes, link: ConnectionHandle) -> None:
        await asyncio.sleep(link.adapter.limits.snapshot_delay)
        self._pipeline.handle_snapshot(events, body, time.time_ns() // 1000, link)
        await self._pipeline.settle()
