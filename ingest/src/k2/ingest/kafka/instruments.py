"""The topic of instruments: what earlier processes, and others of the exchange, read of its list."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastavro import parse_schema

from k2.common import logs
from k2.common.kafka_connection import ConnectionErrors, KafkaConnection
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.kafka.resume import READ_TIMEOUT, KafkaUnreadable, open_consumer, read_records
from k2.schemas.codecs import avro, wire
from k2.schemas.records.instrument import AVRO, InstrumentVersion

log = logs.get("instruments")

_CHUNK: Final = 1000  # records; a definition has some KB


class InstrumentTopic:
    """Reads and writes the versions of one exchange. `schemas` returns the topic's Avro schemas by id."""

    def __init__(
        self,
        kafka: KafkaConnection,
        topic: str,
        publisher: Publisher,
        schema_id: int,
        schemas: Callable[[], Mapping[int, str]],
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._publisher = publisher
        self._encoder = avro.RecordEncoder(schema_id, avro.load(AVRO), lambda version: version.fields)
        self._schemas = schemas
        self._next_offsets: dict[int, int] = {}  # by partition

    async def recall(self) -> list[InstrumentVersion]:
        """Return the versions that were published since the last call, in order. Raises `KafkaUnreadable`."""
        return await asyncio.to_thread(self._recall)

    def publish(self, version: InstrumentVersion) -> Awaitable[None]:
        """Send a version. The result completes when Kafka acknowledges it."""
        value = self._encoder.encode(version)
        return self._publisher.send_instrument(value, version.instrument.raw_symbol)

    def _recall(self) -> list[InstrumentVersion]:
        errors = ConnectionErrors()
        parsed = {number: parse_schema(msgspec.json.decode(text)) for number, text in self._schemas().items()}
        versions: list[InstrumentVersion] = []
        with closing(open_consumer(self._kafka, errors)) as consumer:
            try:
                partitions = consumer.list_topics(self._topic, timeout=READ_TIMEOUT).topics[self._topic].partitions
                for partition in partitions:
                    versions += self._new_versions(consumer, partition, parsed)
            except KafkaException as error:
                raise KafkaUnreadable(f"Kafka at {self._kafka}: {errors.describe(error, consumer)}") from error
        return sorted(versions, key=lambda version: version.valid_from)

    def _new_versions(self, consumer: Consumer, partition: int, schemas: Mapping[int, Any]) -> list[InstrumentVersion]:
        low, high = consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=READ_TIMEOUT)
        versions: list[InstrumentVersion] = []
        for start in range(max(low, self._next_offsets.get(partition, 0)), high, _CHUNK):
            for message in read_records(consumer, self._topic, partition, start, min(high, start + _CHUNK)):
                versions += _decoded(message.value(), schemas)
        self._next_offsets[partition] = high
        return versions


def _decoded(value: bytes | None, schemas: Mapping[int, Any]) -> list[InstrumentVersion]:
    try:
        schema_id, body = wire.split(value or b"")
        return [InstrumentVersion.of(avro.decode(body, schemas[schema_id], avro.load(AVRO)))]
    except (wire.MalformedHeader, KeyError, ValueError, EOFError, IndexError, TypeError) as error:
        log.warning("unreadable instrument skipped", error=str(error))
        return []
