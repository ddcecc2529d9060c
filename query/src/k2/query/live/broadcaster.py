"""Trades as they come: one consumer of Kafka, any number of subscribers, each trade once for each of them.

A thread reads and judges; everything else happens in the event loop, so that nothing needs a lock. A subscriber who
was here before is first sent what came since, read from Kafka again, and then what comes.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

from k2.common import logs
from k2.common.platform import Platform
from k2.query.errors import Unavailable
from k2.query.kafka.kafka_reader import Judged, Place, Records
from k2.query.kafka.time_merge import merged
from k2.query.kafka.validation import Row
from k2.query.live.resume import Cursor
from k2.query.live.subscriptions import Subscription

SUBSCRIBERS: Final = 200
QUEUE: Final = 5_000  # trades that wait for a slow client
HISTORY: Final = 500_000  # records that are read again for one who resumes
_LOOK: Final = 5.0  # seconds between looks for new topics
_PAUSE: Final = 0.5
_POLL: Final = 0.1

log = logs.get("live")


class Full(RuntimeError):
    """There are as many subscribers as there may be."""


class Gone(RuntimeError):
    """Kafka no longer holds what follows a cursor, or it is too much to send again."""


class Hub:
    """The live stream of one platform. `topics` says the labels of topics that do not have K2's own names.

    While it cannot say them, which is `Unavailable`, those that it said before are known.
    """

    def __init__(
        self,
        platform: Platform,
        *,
        topics: Callable[[], Mapping[str, str]] = dict,
        subscribers: int = SUBSCRIBERS,
        queue: int = QUEUE,
    ) -> None:
        self._records = Records(platform)
        self._topics = topics
        self._own: Mapping[str, str] = {}
        self._most = subscribers
        self._queue = queue
        self._subscriptions: set[Subscription] = set()
        self._coming = 0
        self._histories = asyncio.Semaphore(4)
        self._starting = asyncio.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._labels: dict[Place, str] = {}
        self._positions: dict[Place, int] = {}

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscriptions)

    async def subscribe(self, symbols: frozenset[str], exchange: str | None, cursor: str | None) -> "Subscription":
        """A subscription to some symbols, or to all; close it. With a cursor, it begins with what came since.

        Raises `Full`, `Gone`, `BadQuery` for a cursor that is none, and `Unavailable` where Kafka is away.
        """
        since = Cursor.read(cursor) if cursor else None
        if len(self._subscriptions) + self._coming >= self._most:
            raise Full(f"{self._most} subscribers are served at once; come back later")
        self._coming += 1
        try:
            await self._started()
            starts = await asyncio.to_thread(self._since, since) if since else None
        finally:
            self._coming -= 1
        found = Subscription(self, symbols, exchange, self._queue, starts)
        self._subscriptions.add(found)
        return found

    async def close(self) -> None:
        """Ends every subscription, and the thread."""
        self._stopping.set()
        for subscription in list(self._subscriptions):
            subscription.drop("the server stops")
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def leave(self, subscription: "Subscription") -> None:
        """Forgets one."""
        self._subscriptions.discard(subscription)

    @property
    def positions(self) -> Mapping[Place, int]:
        """Before which everything has been offered to those who listen."""
        return self._positions

    async def history(self, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> AsyncGenerator[list[Judged]]:
        """The records from `starts` on that stand before `ends`, read again, merged by time."""
        async with self._histories:
            batches = self._records.merged(starts, ends, self._labels)
            try:
                while (batch := await _whole(asyncio.to_thread(next, batches, None))) is not None:
                    yield batch
            finally:
                await asyncio.to_thread(batches.close)

    async def beginnings(self, places: Mapping[Place, Any]) -> dict[Place, int]:
        """The first offset that Kafka still holds of each place."""
        return await asyncio.to_thread(self._records.beginnings, places)

    async def since(self, places: Mapping[Place, Any], time: int) -> dict[Place, int]:
        """The offset of the first record of each place that is not older, in milliseconds; without one, none."""
        return await asyncio.to_thread(self._records.since, places, time)

    def _since(self, cursor: Cursor) -> dict[Place, int]:
        """Where each place stood when a cursor was made. Raises `Gone`, `BadQuery`.

        A place that the cursor does not name was empty then.
        """
        ends = self._records.ends(self._labels)
        cursor.refuse_unless(ends)
        starts = {place: cursor.offsets.get(place, 0) for place in ends}
        beginnings = self._records.beginnings(ends)
        if any(start < beginnings[place] for place, start in starts.items()):
            raise Gone("Kafka no longer holds what came after this id; begin with what comes now, and ask for the rest")
        if sum(ends[place] - start for place, start in starts.items()) > HISTORY:
            raise Gone("too much came since this id; begin with what comes now, and ask for the rest")
        return starts

    async def _started(self) -> None:
        async with self._starting:
            if self._thread is not None:
                return
            self._loop = asyncio.get_running_loop()
            self._labels, self._positions = await asyncio.to_thread(self._look)
            self._thread = threading.Thread(target=self._run, name="k2-live", daemon=True)
            self._thread.start()

    def _look(self) -> tuple[dict[Place, str], dict[Place, int]]:
        labels = self._there()
        return labels, self._records.ends(labels)

    def _there(self) -> dict[Place, str]:
        with suppress(Unavailable):
            self._own = self._topics()
        return self._records.places(self._own)

    def _run(self) -> None:
        labels, positions = dict(self._labels), dict(self._positions)
        while not self._stopping.is_set():
            try:
                self._follow(labels, positions)
            except Unavailable as error:
                log.warning("the live stream waits", why=str(error))
                self._stopping.wait(_PAUSE)
                self._skip_lost(positions)

    def _follow(self, labels: dict[Place, str], positions: dict[Place, int]) -> None:
        reader = self._records.reader(labels)
        try:
            reader.add(positions)
            looked = time.monotonic()
            while not self._stopping.is_set():
                if found := reader.poll(_POLL):
                    positions |= reader.positions
                    self._tell(merged(found), dict(positions), {})
                if time.monotonic() - looked > _LOOK:
                    looked = time.monotonic()
                    new = {place: label for place, label in self._places().items() if place not in labels}
                    if new:  # they came to be since the last look: all that they hold is new
                        starts = self._records.beginnings(new)
                        labels |= new
                        positions |= starts
                        reader.add(starts, new)
                        self._tell([], dict(positions), dict(labels))
        finally:
            reader.close()

    def _places(self) -> dict[Place, str]:
        try:
            return self._there()
        except Unavailable:
            return {}  # the reader goes on when Kafka is back

    def _skip_lost(self, positions: dict[Place, int]) -> None:
        """What Kafka has lost cannot be sent; who waits for it is told."""
        try:
            there = self._there()
            first, ends = self._records.beginnings(there), self._records.ends(there)
        except Unavailable:
            return
        lost = {p: at for p, at in positions.items() if p not in ends or not first[p] <= at <= ends[p]}
        for place in lost:
            positions.pop(place)
            if place in ends:
                positions[place] = first[place]
        if lost:
            self._call(self._drop_all, "Kafka lost trades before they were sent", dict(positions))

    def _drop_all(self, reason: str, positions: dict[Place, int]) -> None:
        self._positions = positions
        for subscription in list(self._subscriptions):
            subscription.drop(reason)

    def _tell(self, found: list[Judged], positions: dict[Place, int], labels: dict[Place, str]) -> None:
        self._call(self._deliver, found, positions, labels)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _deliver(self, found: list[Judged], positions: dict[Place, int], labels: dict[Place, str]) -> None:
        self._positions = positions
        self._labels |= labels
        trades = [record for record in found if isinstance(record.verdict, Row)]
        for subscription in list(self._subscriptions):
            subscription.offer(trades)


async def _whole(step: Coroutine[Any, Any, Any]) -> Any:
    """What a step in a thread gives; who is cancelled meanwhile waits for its end, and leaves no thread alone."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
