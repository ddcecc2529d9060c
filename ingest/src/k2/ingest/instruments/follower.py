"""Follow an exchange's instrument list: read it at the start and every hour, and publish each version once."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from k2.common import logs
from k2.ingest.backfill.rest import RestUnreachable
from k2.ingest.exchanges.base import MalformedFrame, RestRefused
from k2.ingest.instruments.directory import Directory, EmptyList
from k2.ingest.instruments.reader import Fetch, read_instruments
from k2.ingest.kafka.resume import KafkaUnreadable
from k2.ingest.telemetry.stats import Stats
from k2.schemas.records.instrument import InstrumentVersion

log = logs.get("instruments")

_EVERY: Final = 3600.0  # seconds
_RETRY: Final = 60.0
_JITTER: Final = 0.05  # so that the processes of an exchange do not ask at once
UNREADABLE: Final = (RestUnreachable, RestRefused, MalformedFrame, EmptyList)


class Archive(Protocol):
    """The topic of instruments."""

    async def recall(self) -> list[InstrumentVersion]:
        """Return the versions that were published since the last call, in order. Raises `KafkaUnreadable`."""
        ...

    def publish(self, version: InstrumentVersion) -> Awaitable[None]:
        """Send a version. The result completes when Kafka acknowledges it."""
        ...


class ListUnreadable(ConnectionError):
    """The exchange's instrument list cannot be read, and no earlier process published one."""


class Follower:
    """Keeps the directory of one process up to date.

    `archive` is None where there is no topic of instruments. `listings` are the numbers of the listings that have
    begun, by symbol, as the sequencing knows them at each reading.
    """

    def __init__(
        self,
        exchange: str,
        directory: Directory,
        fetch: Fetch,
        archive: Archive | None,
        stats: Stats,
        now: Callable[[], int],
        listings: Mapping[str, int],
        *,
        every: float | None = None,
        retry: float | None = None,
    ) -> None:
        self._exchange = exchange
        self._directory = directory
        self._fetch = fetch
        self._archive = archive
        self._stats = stats
        self._now = now
        self._listings = listings
        self._every, self._retry = every or _EVERY, retry or _RETRY  # seconds
        self._readable = False

    async def start(self) -> None:
        """Read the list, or use that of an earlier process. Raises `ListUnreadable` if there is neither."""
        await self._read()
        if not self._directory.version:
            raise ListUnreadable(f"the instrument list of {self._exchange} cannot be read: {self._stats.list_error}")

    async def run(self) -> None:
        """Read the list every hour until cancelled."""
        while True:
            wait = self._every if self._readable else min(self._retry, self._every)
            await asyncio.sleep(wait * (1 + _JITTER * random.random()))
            await self._read()

    async def _read(self) -> None:
        directory, stats = self._directory, self._stats
        try:
            if self._archive is not None:
                directory.recall(await self._archive.recall())
            listed = await read_instruments(self._exchange, self._fetch)
            versions = directory.take(listed, self._now(), self._listings)
        except (*UNREADABLE, KafkaUnreadable) as error:
            self._readable, stats.list_error = False, str(error)
            stats.errors["instruments"] += 1
            log.warning("instrument list not read", error=str(error), known=bool(directory.version))
        else:
            self._readable, stats.list_error = True, ""
            self._publish(versions)
        stats.list_read_at, stats.list_cached = directory.read_at, directory.cached

    def _publish(self, versions: list[InstrumentVersion]) -> None:
        if versions:
            log.info("instrument list changed", versions=len(versions))
        if self._archive is not None:
            for version in versions:
                self._archive.publish(version)
