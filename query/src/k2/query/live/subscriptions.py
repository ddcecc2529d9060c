"""One subscriber of the live stream: its queue, the identities that it was sent, and its position to resume from."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from k2.query.errors import Unavailable
from k2.query.kafka import record_buffer
from k2.query.kafka.records import TopicPartition, ValidatedRecord
from k2.query.kafka.row_types import Row, identity_of
from k2.query.live.resume import Cursor
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import Channel

_MAX_SENT: Final = 20_000  # identities
_CATCH_UP_RECORDS: Final = 1_000  # records left to read when new ones start to wait in the queue
_USUAL_ITEMS: Final = 100  # in the lists of a record
_REPLAYED_RECORDS: Final = 500  # records of each partition before a cursor that are read only for their identities,
_REPLAYED_MS: Final = 10_000  # and all records of that many milliseconds before it


@dataclass(frozen=True, slots=True)
class Dropped:
    """The last event of a subscription that ends: the reason, and the id to resume from."""

    reason: str
    id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """No record for a while. Resuming from its id skips the records that did not match."""

    id: str


@dataclass(frozen=True, slots=True)
class Event:
    """One record, and the id to resume after it."""

    row: Row
    id: str


class Stream(Protocol):
    """What a subscription needs of the stream that it belongs to."""

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The offset of each partition before which everything was offered to the subscribers."""
        ...

    def read_history(
        self, starts: Mapping[TopicPartition, int], end_offsets: Mapping[TopicPartition, int]
    ) -> AsyncGenerator[list[ValidatedRecord]]:
        """Yield the records from `starts` up to `end_offsets`, merged by time."""
        ...

    async def beginning_offsets(self, partitions: Mapping[TopicPartition, Any]) -> dict[TopicPartition, int]:
        """Return the first offset that Kafka still holds of each partition."""
        ...

    async def offsets_at(self, partitions: Mapping[TopicPartition, Any], time: int) -> dict[TopicPartition, int]:
        """Return the offset of each partition's first record that is not older than `time` (milliseconds)."""
        ...

    def unsubscribe(self, subscription: "Subscription") -> None:
        """Remove a subscription."""
        ...


class Subscription:
    """One subscriber. Iterate over `events` once; `close` it when the client disconnects."""

    def __init__(
        self,
        stream: Stream,
        channel: Channel,
        symbols: frozenset[str],
        exchange: str | None,
        max_queued: int,
        starts: Mapping[TopicPartition, int] | None,
    ) -> None:
        self._stream = stream
        self._channel = channel
        self._identity = identity_of(channel)
        self._symbols = symbols
        self._symbol_at = channel.column_names.index("symbol")
        self._passes = record_buffer.matcher(channel, RecordFilter(exchange=exchange))
        self._max_queued = max_queued
        self._starts = starts
        self._positions = dict(starts if starts is not None else stream.positions)
        self._sent: OrderedDict[Any, None] = OrderedDict()
        self._queue: deque[ValidatedRecord] = deque()
        self._queued = 0  # the records in the queue, a large one counted as several
        self._lists = [place for place, each in enumerate(channel.columns) if each.type.startswith("array<")]
        self._listening = starts is None
        self._reason = ""
        self._wake_up = asyncio.Event()

    @property
    def id(self) -> str:
        """The id to resume from."""
        return Cursor(self._channel, self._positions).encode()

    @property
    def open(self) -> bool:
        """Whether nothing has ended it."""
        return not self._reason

    def offer(self, records: list[ValidatedRecord]) -> None:
        """Queue the matching records. A full queue ends the subscription."""
        if not self._listening or self._reason:
            return
        matching = [record for record in records if self._matches(record)]
        self._queue += matching
        self._queued += sum(map(self._size, matching))
        if self._queued > self._max_queued:
            self.drop(
                f"{self._max_queued} {self._channel.name} were queued and were not read; "
                "read faster or subscribe to fewer symbols"
            )
        elif self._queue:
            self._wake_up.set()

    def drop(self, reason: str) -> None:
        """End the subscription with a reason; queued records are discarded."""
        self._reason = self._reason or reason
        self._queue.clear()
        self._queued = 0
        self._wake_up.set()

    def close(self) -> None:
        """End the subscription, because the client disconnected."""
        self.drop("closed")
        self._stream.unsubscribe(self)

    async def events(self, heartbeat: float) -> AsyncGenerator[Event | Heartbeat | Dropped]:
        """Yield records as they arrive, a `Heartbeat` after that many seconds without one, and `Dropped` at the end."""
        if self._starts is not None:
            try:
                async for event in self._catch_up(self._starts):
                    yield event
            except Unavailable as error:
                self.drop(str(error))
        while True:
            while self._queue:
                record = self._queue.popleft()
                self._queued -= self._size(record)
                if not self._queue:  # everything else that was read does not match
                    self._positions = dict(self._stream.positions)
                if (next_event := self._to_event(record)) is not None:
                    yield next_event
            if self._reason:  # before, or while the last event was sent
                break
            self._wake_up.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(heartbeat):
                    await self._wake_up.wait()
            if not self._wake_up.is_set():
                self._positions = dict(self._stream.positions)
                yield Heartbeat(self.id)
        yield Dropped(self._reason, self.id)

    async def _catch_up(self, starts: Mapping[TopicPartition, int]) -> AsyncIterator[Event]:
        """Yield the records since the cursor, until few enough are left for new ones to wait in the queue."""
        await self._load_sent(starts)
        while not self._reason:
            end_offsets = dict(self._stream.positions)
            start_offsets = {
                topic_partition: self._positions.get(topic_partition, 0) for topic_partition in end_offsets
            }
            self._listening = sum(end_offsets.values()) - sum(start_offsets.values()) <= _CATCH_UP_RECORDS
            async with aclosing(self._read(start_offsets, end_offsets)) as records:
                async for record in records:
                    if self._matches(record) and (event := self._to_event(record)) is not None:
                        yield event
            self._positions = end_offsets
            if self._listening:
                return

    async def _load_sent(self, starts: Mapping[TopicPartition, int]) -> None:
        """Read the records before the cursor, so that duplicates of what was already sent are not sent again."""
        first_offsets = await self._stream.beginning_offsets(starts)
        end_offsets = {
            topic_partition: start
            for topic_partition, start in starts.items()
            if start > first_offsets[topic_partition]
        }
        last_records = {topic_partition: start - 1 for topic_partition, start in end_offsets.items()}
        async with aclosing(self._read(last_records, end_offsets)) as records:
            times = [record.timestamp async for record in records]
        recent_offsets = await self._stream.offsets_at(end_offsets, max(times) - _REPLAYED_MS) if times else {}
        start_offsets = {}
        for topic_partition, end in end_offsets.items():
            start = min(recent_offsets.get(topic_partition, end), end - _REPLAYED_RECORDS)
            start_offsets[topic_partition] = max(
                start, end - _MAX_SENT // len(end_offsets), first_offsets[topic_partition]
            )
        async with aclosing(self._read(start_offsets, end_offsets)) as records:
            async for record in records:
                if isinstance(record.value, tuple):
                    self._mark_sent(record.value)

    async def _read(
        self, start_offsets: Mapping[TopicPartition, int], end_offsets: Mapping[TopicPartition, int]
    ) -> AsyncGenerator[ValidatedRecord]:
        async with aclosing(self._stream.read_history(start_offsets, end_offsets)) as batches:
            async for batch in batches:
                for record in batch:
                    yield record

    def _matches(self, record: ValidatedRecord) -> bool:
        row = record.value
        if not isinstance(row, tuple):
            return False
        return (not self._symbols or row[self._symbol_at] in self._symbols) and self._passes(row)

    def _size(self, record: ValidatedRecord) -> int:
        """Return how many records of usual size a record counts for in the queue: a snapshot of a book for many."""
        return 1 + sum(len(record.value[place] or ()) for place in self._lists) // _USUAL_ITEMS

    def _to_event(self, record: ValidatedRecord) -> Event | None:
        """Convert a valid record to its event; None for a duplicate."""
        row = record.value
        assert isinstance(row, tuple)
        self._positions[record.topic_partition] = max(self._positions.get(record.topic_partition, 0), record.offset + 1)
        return Event(row, self.id) if self._mark_sent(row) else None

    def _mark_sent(self, row: Row) -> bool:
        """Remember a row's identity; return whether it is new."""
        identity = self._identity(row)
        if identity in self._sent:
            return False
        self._sent[identity] = None
        if len(self._sent) > _MAX_SENT:
            self._sent.popitem(last=False)
        return True
