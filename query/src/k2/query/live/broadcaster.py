"""Stream new records from one Kafka consumer to any number of subscribers, each record once for each of them.

A thread consumes and validates; everything else happens in the event loop, so that no locks are needed. A subscriber
that resumes is first sent what it missed, read from Kafka again, and then new records.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from k2.common import logs
from k2.query.errors import Unavailable, WrongFormat
from k2.query.kafka.kafka_reader import RecordReader
from k2.query.kafka.time_merge import merge_by_time
from k2.query.live.resume import Cursor
from k2.query.live.subscriptions import Subscription

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

    from k2.common.platform import Platform
    from k2.query.kafka.records import TopicPartition, ValidatedRecord
    from k2.schemas.channels import Channel

MAX_SUBSCRIBERS: Final = 200
MAX_QUEUED: Final = 5_000  # records that may wait for a slow client
MAX_HISTORY: Final = 500_000  # records that are read again for a client that resumes
_DISCOVERY_SECONDS: Final = 5.0  # seconds between searches for new topics
_RETRY_SECONDS: Final = 0.5
_REFUSED_SECONDS: Final = 2.0  # before a topic of another stored format is looked at again
_POLL_SECONDS: Final = 0.1

log = logs.get("live")


class SubscriberLimit(RuntimeError):
    """The maximum number of subscribers is reached."""


class CursorExpired(RuntimeError):
    """Kafka no longer holds the records after a cursor, or there are too many to send again."""


class Broadcaster:
    """The live stream of one channel of one platform.

    `topics` returns the exchange labels of topics without K2's standard names. While it raises `Unavailable`, its last
    result is used.
    """

    def __init__(
        self,
        platform: Platform,
        channel: Channel,
        *,
        topics: Callable[[], Mapping[str, str]] = dict,
        subscribers: int = MAX_SUBSCRIBERS,
        queue: int = MAX_QUEUED,
    ) -> None:
        self._channel = channel
        self._kafka = RecordReader(platform, channel)
        self._topics = topics
        self._custom_topics: Mapping[str, str] = {}
        self._max_subscribers = subscribers
        self._queue = queue
        self._subscriptions: set[Subscription] = set()
        self._pending = 0
        self._history_slots = asyncio.Semaphore(4)
        self._starting = asyncio.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._labels: dict[TopicPartition, str] = {}
        self._positions: dict[TopicPartition, int] = {}

    @property
    def subscribers(self) -> int:
        """The number of subscribers."""
        return len(self._subscriptions)

    async def subscribe(self, symbols: frozenset[str], exchange: str | None, cursor: str | None) -> Subscription:
        """Subscribe to some symbols, or to all if there are none; close the subscription after use.

        With a cursor, it begins with the records after it. Raises `SubscriberLimit`, `CursorExpired`, `BadQuery` for an
        invalid cursor, and `Unavailable` where Kafka does not answer.
        """
        resume_from = Cursor.decode(cursor, self._channel) if cursor else None
        if len(self._subscriptions) + self._pending >= self._max_subscribers:
            raise SubscriberLimit(
                f"{self._max_subscribers} subscribers are connected already, the maximum; retry later"
            )
        self._pending += 1
        try:
            await self._ensure_started()
            starts = await asyncio.to_thread(self._resume_offsets, resume_from) if resume_from else None
        finally:
            self._pending -= 1
        subscription = Subscription(self, self._channel, symbols, exchange, self._queue, starts)
        self._subscriptions.add(subscription)
        return subscription

    async def close(self) -> None:
        """End every subscription, and stop the thread."""
        self._stopping.set()
        for subscription in list(self._subscriptions):
            subscription.drop("the server is shutting down")
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        self._subscriptions.discard(subscription)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The offset of each partition before which everything was offered to the subscribers."""
        return self._positions

    async def read_history(
        self, starts: Mapping[TopicPartition, int], end_offsets: Mapping[TopicPartition, int]
    ) -> AsyncGenerator[list[ValidatedRecord]]:
        """Yield the records from `starts` up to `end_offsets`, read from Kafka again, merged by time."""
        async with self._history_slots:
            batches = self._kafka.read_merged(starts, end_offsets, self._labels)
            try:
                while (batch := await _uninterrupted(asyncio.to_thread(next, batches, None))) is not None:
                    yield batch
            finally:
                await asyncio.to_thread(batches.close)

    async def beginning_offsets(self, partitions: Mapping[TopicPartition, Any]) -> dict[TopicPartition, int]:
        """Return the first offset that Kafka still holds of each partition."""
        return await asyncio.to_thread(self._kafka.beginning_offsets, partitions)

    async def offsets_at(self, partitions: Mapping[TopicPartition, Any], time: int) -> dict[TopicPartition, int]:
        """Return the offset of each partition's first record that is not older than `time` (milliseconds)."""
        return await asyncio.to_thread(self._kafka.offsets_at, partitions, time)

    def _resume_offsets(self, cursor: Cursor) -> dict[TopicPartition, int]:
        """Return the offset of each partition at a cursor. Raises `CursorExpired`, `BadQuery`.

        A partition that the cursor does not name was empty then.
        """
        end_offsets = self._kafka.end_offsets(self._labels)
        cursor.validate(end_offsets)
        starts = {topic_partition: cursor.offsets.get(topic_partition, 0) for topic_partition in end_offsets}
        beginning_offsets = self._kafka.beginning_offsets(end_offsets)
        if any(start < beginning_offsets[topic_partition] for topic_partition, start in starts.items()):
            raise CursorExpired(
                f"Kafka no longer holds the {self._channel.name} after this id; resume without an id, and query the "
                "missing range"
            )
        if sum(end_offsets[topic_partition] - start for topic_partition, start in starts.items()) > MAX_HISTORY:
            raise CursorExpired(
                f"too many {self._channel.name} followed this id; resume without an id, and query the missing range"
            )
        return starts

    async def _ensure_started(self) -> None:
        async with self._starting:
            if self._thread is not None:
                return
            self._loop = asyncio.get_running_loop()
            self._labels, self._positions = await asyncio.to_thread(self._initial_state)
            self._thread = threading.Thread(target=self._run, name="k2-live", daemon=True)
            self._thread.start()

    def _initial_state(self) -> tuple[dict[TopicPartition, str], dict[TopicPartition, int]]:
        labels = self._discover()
        return labels, self._kafka.end_offsets(labels)

    def _discover(self) -> dict[TopicPartition, str]:
        with suppress(Unavailable):
            self._custom_topics = self._topics()
        return self._kafka.partitions(self._custom_topics)

    def _run(self) -> None:
        labels, positions = dict(self._labels), dict(self._positions)
        while not self._stopping.is_set():
            try:
                self._follow(labels, positions)
            except WrongFormat as error:  # waiting does not help, so no subscriber is left to wait in silence
                log.warning("live stream refused", reason=str(error))
                self._call(self._drop_all, str(error), dict(positions))
                self._stopping.wait(_REFUSED_SECONDS)
            except Unavailable as error:
                log.warning("live stream interrupted", reason=str(error))
                self._stopping.wait(_RETRY_SECONDS)
                self._skip_lost(positions)

    def _follow(self, labels: dict[TopicPartition, str], positions: dict[TopicPartition, int]) -> None:
        reader = self._kafka.reader(labels)
        try:
            reader.add(positions)
            discovered_at = time.monotonic()
            while not self._stopping.is_set():
                if records := reader.poll(_POLL_SECONDS):
                    positions |= reader.positions
                    self._publish(merge_by_time(records), dict(positions), {})
                if time.monotonic() - discovered_at > _DISCOVERY_SECONDS:
                    discovered_at = time.monotonic()
                    if reader.outdated:
                        return  # another one continues at the same positions
                    new = {
                        topic_partition: label
                        for topic_partition, label in self._try_discover().items()
                        if topic_partition not in labels
                    }
                    if new:  # created since the last search, so all their records are new
                        starts = self._kafka.beginning_offsets(new)
                        labels |= new
                        positions |= starts
                        reader.add(starts, new)
                        self._publish([], dict(positions), dict(labels))
        finally:
            reader.close()

    def _try_discover(self) -> dict[TopicPartition, str]:
        try:
            return self._discover()
        except Unavailable:
            return {}  # the reader continues when Kafka is back

    def _skip_lost(self, positions: dict[TopicPartition, int]) -> None:
        """Skip records that Kafka has deleted before they were sent, and drop the subscribers that waited for them."""
        try:
            labels = self._discover()
            first, end_offsets = self._kafka.beginning_offsets(labels), self._kafka.end_offsets(labels)
        except Unavailable:
            return
        lost = {p: at for p, at in positions.items() if p not in end_offsets or not first[p] <= at <= end_offsets[p]}
        for topic_partition in lost:
            positions.pop(topic_partition)
            if topic_partition in end_offsets:
                positions[topic_partition] = first[topic_partition]
        if lost:
            self._call(self._drop_all, f"Kafka deleted {self._channel.name} before they were sent", dict(positions))

    def _drop_all(self, reason: str, positions: dict[TopicPartition, int]) -> None:
        self._positions = positions
        for subscription in list(self._subscriptions):
            subscription.drop(reason)

    def _publish(
        self, records: list[ValidatedRecord], positions: dict[TopicPartition, int], labels: dict[TopicPartition, str]
    ) -> None:
        self._call(self._deliver, records, positions, labels)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _deliver(
        self, records: list[ValidatedRecord], positions: dict[TopicPartition, int], labels: dict[TopicPartition, str]
    ) -> None:
        self._positions = positions
        self._labels |= labels
        valid = [record for record in records if isinstance(record.value, tuple)]
        for subscription in list(self._subscriptions):
            subscription.offer(valid)


async def _uninterrupted(step: Coroutine[Any, Any, Any]) -> Any:
    """Await a step that runs in a thread; if cancelled, wait for its end first, so that no thread is left."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
