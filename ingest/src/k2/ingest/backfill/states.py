"""States over REST: where the adapter of a connection lacks the state of a symbol, it is requested until it joins."""

import asyncio
from typing import Final, Protocol

from k2.common import logs
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges.base import RestRefused, StateSource
from k2.ingest.pipeline import ConnectionHandle, Pipeline
from k2.ingest.sequencing.ledger import utc_micros

log = logs.get("states")

_POLL: Final = 0.25  # seconds


class OpenConnection(ConnectionHandle, Protocol):
    """A connection that may end."""

    def alive(self) -> bool:
        """Return whether it is still being read."""
        ...


class States:
    """Request the states of one shard's connections, the most urgent first, within the limits of the client."""

    def __init__(self, client: RestClient, pipeline: Pipeline) -> None:
        self._client = client
        self._pipeline = pipeline
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, link: OpenConnection) -> None:
        """Request the states that a connection lacks, until it ends."""
        if isinstance(link.adapter, StateSource):
            task = asyncio.create_task(self._supply(link, link.adapter), name="states")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Cancel the running requests."""
        for task in self._tasks:
            task.cancel()

    async def _supply(self, link: OpenConnection, adapter: StateSource) -> None:
        while link.alive():
            symbols = {pair.symbol for pair in link.pairs}
            now = utc_micros()
            pair = next((pair for pair in adapter.lacking(now) if pair.symbol in symbols), None)
            if pair is None:
                await asyncio.sleep(_POLL)
                continue
            try:
                body = await self._client.fetch(adapter.state_request(pair, now), bytes)
            except RestRefused as error:
                if error.unknown_symbol:
                    link.disproved(pair.raw_symbol, str(error))
                log.warning("state refused", symbol=pair.raw_symbol, error=str(error))
            except RestUnreachable as error:
                log.warning("state not known", symbol=pair.raw_symbol, error=str(error))
            else:
                self._pipeline.handle_state(pair, body, utc_micros(), link)
                await self._pipeline.settle()
