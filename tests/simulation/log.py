"""Kafka in this process: the only replacement of librdkafka, at the names that `k2.ingest.kafka` imports of it."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from k2.ingest.kafka import instruments, probe, publisher, resume
from k2.ingest.kafka.partitions import partition_of

_LATENCY = 0.005  # seconds until a record is in the log
_METADATA = 10.0  # seconds until a producer knows of new partitions
_QUEUE = 150_000  # records


@dataclass(slots=True)
class Message:
    """One record of the log, with the methods of a librdkafka message."""

    _topic: str
    _partition: int
    _offset: int
    _key: bytes
    _value: bytes
    _millis: int
    _headers: Any

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 1, self._millis

    def headers(self) -> Any:
        return self._headers

    def error(self) -> None:
        return None


class Log:
    """The topics and what befalls their broker. `on_append` sees every record as it becomes durable."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, millis: Callable[[], int], on_append: Callable[[Message], None]
    ) -> None:
        self.loop = loop
        self.topics: dict[str, list[list[Message]]] = {}
        self.down_until = 0.0
        self.rejects_until = 0.0
        self.producers: list[Producer] = []
        self._counts: dict[str, list[tuple[float, int]]] = {}  # since when a topic has how many partitions
        self._millis = millis
        self._on_append = on_append

    def install(self, patches: pytest.MonkeyPatch) -> None:
        """Take librdkafka's place."""
        patches.setattr(publisher, "Producer", self.producer)
        patches.setattr(probe, "AdminClient", lambda _: Admin(self))
        for module in (resume, instruments):
            patches.setattr(module, "Consumer", lambda _: Consumer(self))

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic, or add partitions to it."""
        lists = self.topics.setdefault(topic, [])
        lists.extend([] for _ in range(partitions - len(lists)))
        self._counts.setdefault(topic, []).append((self.loop.time(), partitions))

    def producer(self, configuration: Mapping[str, Any]) -> "Producer":
        """Make a producer; each process has an address of its own for the same brokers."""
        self.producers.append(made := Producer(self, configuration["bootstrap.servers"]))
        return made

    @property
    def down(self) -> bool:
        """Whether no broker answers."""
        return self.loop.time() < self.down_until

    @property
    def troubled(self) -> bool:
        """Whether it takes no records."""
        return self.loop.time() < max(self.down_until, self.rejects_until)

    def partitions_known(self, topic: str, since: float) -> int:
        """Return the number of partitions that a client knows which was made at `since`."""
        now, counts = self.loop.time(), self._counts[topic]
        return max(count for at, count in counts if at <= max(since, now - _METADATA) or at == counts[0][0])

    def append(self, topic: str, partition: int, key: bytes, value: bytes, millis: int, headers: Any) -> Message:
        """Make a record durable."""
        records = self.topics[topic][partition]
        message = Message(topic, partition, len(records), key, value, millis or self._millis(), headers)
        records.append(message)
        self._on_append(message)
        return message

    def metadata(self) -> Any:
        """Return the topics, as librdkafka describes them. Raises `KafkaException` while the broker is down."""
        if self.down:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, "the broker is down"))
        partition = SimpleNamespace(error=None, isrs=[1], replicas=[1])
        topics = {name: SimpleNamespace(partitions=dict.fromkeys(range(len(lists)), partition))
                  for name, lists in self.topics.items()}  # fmt: skip
        return SimpleNamespace(topics=topics)


class Producer:
    """An idempotent producer: records become durable in the order in which they were given."""

    def __init__(self, log: Log, bootstrap: str) -> None:
        self._log = log
        self.bootstrap = bootstrap
        self._made = log.loop.time()
        self._queue: deque[tuple[str, bytes, bytes, int, Any, Any]] = deque()
        self._reports: deque[tuple[Any, Any, Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.hangs = False
        self.dead = False

    def produce(
        self,
        topic: str,
        value: bytes,
        key: str,
        partition: int = -1,
        callback: Any = None,
        on_delivery: Any = None,  # the same by another name
        timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        """Take a record. Raises BufferError if too many wait."""
        if self.dead:
            return
        if len(self._queue) + len(self._reports) >= _QUEUE:
            raise BufferError("queue full")
        self._queue.append((topic, value, key.encode(), timestamp, headers, callback or on_delivery))
        if self._timer is None:
            self._timer = self._log.loop.call_later(_LATENCY, self._flush)

    def poll(self, _: float) -> int:
        """Give the delivery reports that came."""
        count = len(self._reports)
        for _ in range(count):
            report, error, message = self._reports.popleft()
            report(error, message)
        return count

    def list_topics(self, timeout: float = 0.0) -> Any:
        """Return the topics."""
        return self._log.metadata()

    def purge(self, **_: bool) -> None:
        """Drop what waits, in a thread of the publisher: nothing here is left to drop."""

    def hang(self, durable: int) -> None:
        """Never report anything again; of the records that wait, the first `durable` become durable all the same."""
        self._store(durable, reported=False)
        self.hangs = True

    def kill(self, durable: int) -> None:
        """End with the process; of the records that wait, the first `durable` were on their way."""
        if not self.hangs and not self._log.troubled:
            self._store(durable, reported=False)
        self.dead = True
        self._queue.clear()
        self._reports.clear()

    @property
    def waiting(self) -> int:
        """The number of records that are not durable yet."""
        return len(self._queue)

    def _flush(self) -> None:
        log, now = self._log, self._log.loop.time()
        self._timer = None
        if self.dead or self.hangs:
            return
        if log.down:
            self._timer = log.loop.call_at(log.down_until + _LATENCY, self._flush)
            return
        if now < log.rejects_until:
            error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not authorized")
            self._reports.extend((item[-1], error, None) for item in self._queue)
            self._queue.clear()
            return
        self._store(len(self._queue), reported=True)

    def _store(self, count: int, *, reported: bool) -> None:
        for _ in range(min(count, len(self._queue))):
            topic, value, key, millis, headers, report = self._queue.popleft()
            partition = partition_of(key, self._log.partitions_known(topic, self._made))
            if topic not in self._log.topics:
                raise KeyError(topic)
            message = self._log.append(topic, partition, key, value, millis, headers)
            if reported and report is not None:
                self._reports.append((report, None, message))


class Admin:
    """The administrative client of the probe."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def list_topics(self, topic: str, timeout: float) -> Any:
        """Return the topics."""
        return self._log.metadata()

    def list_offsets(self, places: Mapping[TopicPartition, Any], request_timeout: float) -> Mapping[Any, Any]:
        """Return offsets that are there at once."""
        return {place: SimpleNamespace(result=lambda _: None) for place in places}


class Consumer:
    """A consumer of assigned partitions."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._positions: dict[tuple[str, int], int] = {}
        self._paused: set[tuple[str, int]] = set()

    def close(self) -> None:
        """End."""

    def poll(self, timeout: float) -> None:
        """Report nothing: a broker that is down says no more than that."""

    def list_topics(self, topic: str, timeout: float) -> Any:
        """Return the topics."""
        return self._log.metadata()

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        """Return where a partition begins and ends."""
        self._log.metadata()
        return 0, len(self._log.topics[place.topic][place.partition])

    def assign(self, places: Sequence[TopicPartition]) -> None:
        """Read from these places on."""
        self._positions = {(place.topic, place.partition): max(0, place.offset) for place in places}

    def pause(self, places: Sequence[TopicPartition]) -> None:
        """Read nothing of these places for now."""
        self._paused.update((place.topic, place.partition) for place in places)

    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Read them again."""
        self._paused.difference_update((place.topic, place.partition) for place in places)

    def consume(self, count: int, timeout: float) -> list[Message]:
        """Return the next records."""
        self._log.metadata()
        batch: list[Message] = []
        for place, offset in self._positions.items():
            if place not in self._paused and len(batch) < count:
                records = self._log.topics[place[0]][place[1]][offset : offset + count - len(batch)]
                self._positions[place] = offset + len(records)
                batch += records
        return batch

    def offsets_for_times(self, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Return the first record at or after the time that each place has as its offset; -1 for none."""
        answers = []
        for place in places:
            records = self._log.topics[place.topic][place.partition]
            offset = next((m.offset() for m in records if m.timestamp()[1] >= place.offset), -1)
            answers.append(TopicPartition(place.topic, place.partition, offset))
        return answers
