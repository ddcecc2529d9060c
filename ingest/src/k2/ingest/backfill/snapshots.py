"""Snapshots over REST: the state of every symbol, requested after each connect."""

import asyncio
import time
from collections.abc import Sequence

from k2.common import logs
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges.base import Event, MalformedFrame, Newest, Request, RestRefused
from k2.ingest.pipeline import ConnectionHandle, Pipeline
from k2.schemas.exchanges.spec import Pair

log = logs.get("snapshots")


class Snapshots:
    """Request the snapshots of one shard; the successor of a connection cancels the requests of that one."""

    def __init__(self, client: RestClient, pipeline: Pipeline) -> None:
        self._client = client
        self._pipeline = pipeline
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by lane

    def restart(self, link: ConnectionHandle) -> None:
        """Start the requests of a connection that has subscribed."""
        if (task := self._tasks.get(link.lane)) is not None:
            task.cancel()
        self._tasks[link.lane] = asyncio.create_task(self.request_all(link))

    def cancel(self) -> None:
        """Cancel the running requests."""
        for task in self._tasks.values():
            task.cancel()

    async def request_all(self, link: ConnectionHandle) -> None:
        """Request each pair's snapshot, one after the other, and process it once the stream has caught up with it."""
        async with asyncio.TaskGroup() as group:
            for pair in link.pairs:
                request = link.adapter.snapshot_request(pair)
                if request is None:
                    continue
                try:
                    snapshot = await self._request(request, pair, link)
                except RestRefused as error:
                    if error.unknown_symbol:
                        link.disproved(pair.raw_symbol, str(error))
                    log.warning("snapshot refused", symbol=pair.raw_symbol, error=str(error))
                except (RestUnreachable, MalformedFrame) as error:
                    log.warning("snapshot failed", symbol=pair.raw_symbol, error=str(error))
                else:
                    group.create_task(self._process(*snapshot, link))

    async def newest(self, pair: Pair, link: ConnectionHandle) -> tuple[Newest, Sequence[Event], bytes] | None:
        """Return a symbol's newest record over REST, the events of the response and its body.

        None if the channel has no such request. Raises `RestRefused`, `RestUnreachable` or `MalformedFrame`.
        """

        def read(body: bytes) -> tuple[Newest, Sequence[Event], bytes]:
            adapter = link.adapter
            return adapter.parse_newest(body), adapter.parse_snapshot(pair, body, time.time_ns() // 1000), body

        request = link.adapter.snapshot_request(pair)
        return None if request is None else await self._client.fetch(request, read)

    async def _request(self, request: Request, pair: Pair, link: ConnectionHandle) -> tuple[Sequence[Event], bytes]:
        def read(body: bytes) -> tuple[Sequence[Event], bytes]:
            return link.adapter.parse_snapshot(pair, body, time.time_ns() // 1000), body

        return await self._client.fetch(request, read)

    async def _process(self, events: Sequence[Event], body: bytes, link: ConnectionHandle) -> None:
        await asyncio.sleep(link.adapter.limits.snapshot_delay)
        self._pipeline.handle_snapshot(events, body, time.time_ns() // 1000, link)
        await self._pipeline.settle()
