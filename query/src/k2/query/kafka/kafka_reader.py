"""Read records and raw frames from Kafka: list partitions, look up offsets, consume and validate records.

Everything here raises `Unavailable`, which names the service, where Kafka or the schema registry does not answer.
This is the only module of the query engine that uses a Kafka client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as AssignedPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2.common.kafka_connection import ConnectionErrors, KafkaConnection
from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaCache
from k2.query.errors import Unavailable
from k2.query.kafka.records import ConsumedRecord, Frame, TopicPartition, ValidatedRecord
from k2.query.kafka.time_merge import TimeMerge
from k2.query.kafka.validation import Validator, check_formats
from k2.schemas import topics
from k2.schemas.exchanges.registry import EXCHANGES

if TYPE_CHECKING:
    from k2.common.platform import Platform
    from k2.query.kafka.row_types import Row
    from k2.schemas.channels import Channel

TIMEOUT_SECONDS: Final = 5.0
_STALL_SECONDS: Final = 10.0  # seconds without a record although the end offset was not reached
_MAX_POLL: Final = 5_000
_MAX_BACKLOG: Final = 2_000  # records of one partition that may wait for those of others before it is paused
_MISSING_SCHEMA_SECONDS: Final = 10.0  # before the registry is asked again for a schema that it lacks
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

T = TypeVar("T")

Decode = Callable[[str, str, Message], T]  # of a message, given its topic and the label of its exchange


class KafkaReader:
    """Read topics of one platform: their partitions and offsets, and the frames in dead-letter topics."""

    def __init__(self, platform: Platform) -> None:
        self._kafka = platform.kafka
        self._admin: AdminClient | None = None
        self._errors = ConnectionErrors()

    def dead_letter_partitions(self) -> dict[TopicPartition, str]:
        """Return every partition of the ingests' dead-letter topics, with the label of its exchange."""
        return self._partitions(topics.dead_letters(""), {})

    def end_offsets(self, partitions: Mapping[TopicPartition, Any]) -> dict[TopicPartition, int]:
        """Return the offset after the last record of each partition."""
        return self._offsets(dict.fromkeys(partitions, _LATEST))

    def beginning_offsets(self, partitions: Mapping[TopicPartition, Any]) -> dict[TopicPartition, int]:
        """Return the offset of the first record that Kafka still holds in each partition."""
        return self._offsets(dict.fromkeys(partitions, _EARLIEST))

    def offsets_at(self, partitions: Mapping[TopicPartition, Any], time: int) -> dict[TopicPartition, int]:
        """Return the offset of each partition's first record that is not older than `time` (milliseconds since 1970).

        A partition without such a record is left out.
        """
        offsets = self._offsets(dict.fromkeys(partitions, OffsetSpec.for_timestamp(time)))
        return {topic_partition: offset for topic_partition, offset in offsets.items() if offset >= 0}

    def read_frames(
        self,
        starts: Mapping[TopicPartition, int],
        end_offsets: Mapping[TopicPartition, int],
        partitions: Mapping[TopicPartition, str],
        *,
        with_bytes: bool = False,
    ) -> Generator[list[ConsumedRecord[Frame]]]:
        """Yield the raw frames in the dead-letter topics between two offsets; `with_bytes` includes their bodies."""
        return self._read(starts, end_offsets, partitions, _to_frame if with_bytes else _frame_without_bytes)

    def _read(
        self,
        starts: Mapping[TopicPartition, int],
        end_offsets: Mapping[TopicPartition, int],
        partitions: Mapping[TopicPartition, str],
        decode: Decode[T],
        *,
        merge: bool = False,
    ) -> Generator[list[ConsumedRecord[T]]]:
        remaining = {
            topic_partition: end_offsets[topic_partition]
            for topic_partition, start in starts.items()
            if start < end_offsets[topic_partition]
        }
        if not remaining:
            return
        time_merge: TimeMerge[ConsumedRecord[T]] | None = TimeMerge(remaining) if merge else None
        with closing(PartitionReader(self._kafka, dict(partitions), decode)) as reader:
            reader.add({topic_partition: starts[topic_partition] for topic_partition in remaining})
            last_record_at = time.monotonic()
            while remaining:
                records = reader.poll(0.5)
                if records:
                    last_record_at = time.monotonic()
                elif time.monotonic() - last_record_at > _STALL_SECONDS:
                    raise Unavailable(
                        f"Kafka at {self._kafka} returned no records of {_topic_names(remaining)} within "
                        f"{_STALL_SECONDS:.0f} s"
                    )
                records = [record for record in records if record.offset < end_offsets[record.topic_partition]]
                remaining = {
                    topic_partition: end
                    for topic_partition, end in remaining.items()
                    if reader.positions[topic_partition] < end
                }
                if time_merge is None:
                    yield records
                    continue
                time_merge.add(records)
                time_merge.finish(
                    topic_partition for topic_partition in end_offsets if topic_partition not in remaining
                )
                yield time_merge.ready()
                reader.set_paused(time_merge.backlogged(_MAX_BACKLOG) & remaining.keys())

    def _partitions(self, prefix: str, labels: Mapping[str, str]) -> dict[TopicPartition, str]:
        partitions: dict[TopicPartition, str] = {}
        for name, topic in self._with_admin(lambda admin: admin.list_topics(timeout=TIMEOUT_SECONDS)).topics.items():
            spec = EXCHANGES.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
            if label := labels.get(name) or (spec.label if spec else ""):
                partitions |= dict.fromkeys(((name, partition) for partition in topic.partitions), label)
        return partitions

    def _offsets(self, specs: Mapping[TopicPartition, OffsetSpec]) -> dict[TopicPartition, int]:
        offset_specs = {AssignedPartition(*topic_partition): spec for topic_partition, spec in specs.items()}

        def list_offsets(admin: AdminClient) -> dict[TopicPartition, int]:
            futures = admin.list_offsets(offset_specs, request_timeout=TIMEOUT_SECONDS)
            return {
                (at.topic, at.partition): future.result(2 * TIMEOUT_SECONDS).offset for at, future in futures.items()
            }

        return self._with_admin(list_offsets) if offset_specs else {}

    def _with_admin(self, call: Callable[[AdminClient], T]) -> T:
        try:
            if self._admin is None:
                self._admin = AdminClient({**self._kafka.client(self._errors), "log_level": 0})
            return call(self._admin)
        except (KafkaException, TimeoutError) as error:
            failed, self._admin = self._admin, None  # the next one reads the files of its identity again
            if failed is not None:
                failed.poll(0)  # for the errors of its connections
            raise _unavailable(self._kafka, error, self._errors) from error


class RecordReader(KafkaReader):
    """Read the records of one channel of one platform."""

    def __init__(self, platform: Platform, channel: Channel) -> None:
        super().__init__(platform)
        self._channel = channel
        self._registry = Registry(platform.registry)
        self._validators: dict[str, _TopicValidator] = {}

    def partitions(self, exchanges: Mapping[str, str]) -> dict[TopicPartition, str]:
        """Return every partition of the channel's existing topics, with the exchange label of its records.

        These are the topics with K2's standard names and those in `exchanges`, which maps a topic to its label.
        """
        return self._partitions(topics.records(self._channel.name, ""), exchanges)

    def reader(self, partitions: Mapping[TopicPartition, str]) -> PartitionReader[Row | str]:
        """Return a reader that consumes and validates records continuously; more partitions may be added later."""
        return PartitionReader(self._kafka, dict(partitions), self._validate)

    def read(
        self,
        starts: Mapping[TopicPartition, int],
        end_offsets: Mapping[TopicPartition, int],
        partitions: Mapping[TopicPartition, str],
    ) -> Generator[list[ValidatedRecord]]:
        """Yield the records from `starts` up to `end_offsets` (exclusive), which must have been reached already."""
        return self._read(starts, end_offsets, partitions, self._validate)

    def read_merged(
        self,
        starts: Mapping[TopicPartition, int],
        end_offsets: Mapping[TopicPartition, int],
        partitions: Mapping[TopicPartition, str],
    ) -> Generator[list[ValidatedRecord]]:
        """Yield the same records merged by Kafka's timestamp, so that no partition runs ahead of the others."""
        return self._read(starts, end_offsets, partitions, self._validate, merge=True)

    def _validate(self, topic: str, label: str, message: Message) -> Row | str:
        validator = self._validators.get(topic)
        if validator is None:
            validator = self._validators[topic] = _TopicValidator(self._channel, self._registry, topic, label)
        return validator.validate(message)


class PartitionReader(Generic[T]):
    """Consume assigned partitions without a consumer group and without commits. Not thread-safe."""

    def __init__(self, kafka: KafkaConnection, partitions: dict[TopicPartition, str], decode: Decode[T]) -> None:
        self._kafka = kafka
        self._version = kafka.version()
        self._errors = ConnectionErrors()
        self._labels = partitions
        self._decode = decode
        self.positions: dict[TopicPartition, int] = {}  # the next offset of each partition
        self._paused: AbstractSet[TopicPartition] = frozenset()
        self._consumer = _consumer(
            kafka,
            self._errors,
            {
                "group.id": f"k2-query-{uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,  # a partition may end in a control record
                "fetch.queue.backoff.ms": 20,
                "queued.min.messages": 10_000,
                "queued.max.messages.kbytes": 16_384,
                "log_level": 0,
            },
        )

    def add(self, starts: Mapping[TopicPartition, int], labels: Mapping[TopicPartition, str] | None = None) -> None:
        """Consume these partitions too, each from its offset."""
        self._labels |= labels or {}
        self.positions |= starts
        try:
            self._consumer.incremental_assign(
                [AssignedPartition(*topic_partition, offset) for topic_partition, offset in starts.items()]
            )
        except KafkaException as error:
            raise _unavailable(self._kafka, error, self._errors) from error

    def set_paused(self, partitions: AbstractSet[TopicPartition]) -> None:
        """Pause exactly these partitions, and resume all others."""
        try:
            self._consumer.pause([AssignedPartition(*topic_partition) for topic_partition in partitions - self._paused])
            self._consumer.resume(
                [AssignedPartition(*topic_partition) for topic_partition in self._paused - partitions]
            )
        except KafkaException as error:
            raise _unavailable(self._kafka, error, self._errors) from error
        self._paused = partitions

    def poll(self, timeout: float) -> list[ConsumedRecord[T]]:
        """Return the records that have arrived; wait up to `timeout` seconds for the first."""
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        records = []
        for message in (first, *self._consumer.consume(_MAX_POLL, timeout=0)):
            if message.topic() is None:
                continue  # a broker disconnected or reconnected; offset requests report it
            topic_partition = (str(message.topic()), int(message.partition() or 0))
            if (error := message.error()) is None:
                value = self._decode(topic_partition[0], self._labels[topic_partition], message)
                offset = int(message.offset() or 0)
                records.append(ConsumedRecord(topic_partition, offset, message.timestamp()[1], value))
                self.positions[topic_partition] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self.positions[topic_partition] = max(self.positions[topic_partition], int(message.offset() or 0))
            else:
                raise _unavailable(self._kafka, KafkaException(error), self._errors)
        return records

    @property
    def outdated(self) -> bool:
        """Whether the files of the client's identity have changed since it was made: it does not read them again."""
        return self._kafka.version() != self._version

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()


class _TopicValidator:
    """Validate the records of one topic; load schemas from the registry when an unknown schema id arrives."""

    def __init__(self, channel: Channel, registry: Registry, topic: str, label: str) -> None:
        self._channel = channel
        self._topic = topic
        self._schemas = SchemaCache(registry, topics.subject(topic))
        self._label = label
        self._validator = Validator(channel, {}, label)
        self._missing_until: dict[bytes, float] = {}

    def validate(self, message: Message) -> Row | str:
        value, key = message.value(), message.key()
        if not self._validator.has_schema(value):
            self._load_schema(bytes(value or b"")[:5])
        return self._validator.validate(value, _bytes(key), message.timestamp()[1] * 1000)

    def _load_schema(self, header: bytes) -> None:
        now = time.monotonic()
        if now < self._missing_until.get(header, 0.0):
            return
        try:
            schemas = self._schemas.schemas()
        except RegistryUnavailable as error:
            raise Unavailable(" ".join(str(error).split())[:300]) from error
        check_formats(self._topic, schemas)
        self._validator = Validator(self._channel, schemas, self._label)
        if len(self._missing_until) > _MAX_POLL:
            self._missing_until.clear()
        self._missing_until[header] = now + _MISSING_SCHEMA_SECONDS


def _to_frame(_topic: str, label: str, message: Message) -> Frame:
    headers = message.headers()
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    texts = {name: value.decode(errors="replace") for name, value in pairs if isinstance(value, bytes)}
    value = _bytes(message.value()) or b""
    error, reason = texts.get(topics.DEAD_LETTER_ERROR, ""), texts.get(topics.DEAD_LETTER_REASON, "")
    items, feed = texts.get(topics.DEAD_LETTER_ITEMS, ""), texts.get(topics.DEAD_LETTER_FEED, "")
    return Frame(label, error, reason, len(value), value, items, feed)


def _frame_without_bytes(topic: str, label: str, message: Message) -> Frame:
    return _to_frame(topic, label, message)._replace(body=b"")


def _bytes(key: str | bytes | None) -> bytes | None:
    return key.encode() if isinstance(key, str) else key


def _topic_names(partitions: Mapping[TopicPartition, Any]) -> str:
    return ", ".join(sorted({topic for topic, _ in partitions}))


def _consumer(kafka: KafkaConnection, errors: ConnectionErrors, settings: dict[str, Any]) -> Consumer:
    try:
        return Consumer(kafka.client(errors) | settings)
    except KafkaException as error:
        raise _unavailable(kafka, error, errors) from error


def _unavailable(kafka: KafkaConnection, error: Exception, errors: ConnectionErrors) -> Unavailable:
    reason = errors.describe(error) if isinstance(error, KafkaException) else str(error) or "timed out"
    return Unavailable(f"Kafka at {kafka} cannot be read: {' '.join(reason.split())[:300]}")
