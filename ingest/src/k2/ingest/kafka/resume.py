"""The resume position of a shard, read from Kafka: no other state needs to outlive a pod.

A symbol's live records are in one partition, ordered by id, so the newest live record is the resume position. Gaps that
are still open are in the gap topic.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import uuid4

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastavro import parse_schema

from k2.common import logs
from k2.ingest.exchanges.base import DECODE_ERRORS
from k2.ingest.sequencing.gaps import GapEvent, decode
from k2.ingest.sequencing.tracker import Position
from k2.schemas.channels import Channel, Sequencing
from k2.schemas.codecs import avro, wire
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source
from k2.schemas.states import GapState
from k2.schemas.values import to_micros

log = logs.get("resume")

_FIRST_CHUNK: Final = 1000
_GROWTH: Final = 4
_READ_TIMEOUT: Final = 10.0
_LIVE: Final = frozenset({Source.LIVE.value, Source.SNAPSHOT.value})


class KafkaUnreadable(ConnectionError):
    """Kafka did not return the records it has."""


@dataclass(frozen=True, slots=True)
class ResumeState:
    """The newest delivered record by symbol, and the gaps that are still open."""

    positions: Mapping[str, Position]
    gaps: Sequence[GapEvent]


def read(
    bootstrap: str,
    *,
    channel: Channel,
    records: str,
    gaps: str,
    feed: str,
    pairs: Sequence[Pair],
    schemas: Mapping[int, str],
    horizon: float,
) -> ResumeState:
    """Return the resume state of `pairs` in the topic `records`, reading back at most `horizon` seconds.

    `schemas` are the Avro schemas of the topic by id. Raises `KafkaUnreadable`.
    """
    configuration = {
        "bootstrap.servers": bootstrap,
        "group.id": f"k2-resume-{uuid4()}",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": False,
    }
    parsed = {schema_id: parse_schema(msgspec.json.decode(text)) for schema_id, text in schemas.items()}
    with closing(Consumer(configuration)) as consumer:
        try:
            positions = dict(_positions(consumer, channel, records, pairs, parsed, horizon))
            events = _open_gaps(consumer, gaps, feed, channel, {pair.symbol for pair in pairs})
        except KafkaException as error:
            raise KafkaUnreadable(f"Kafka at {bootstrap}: {error.args[0].str()}") from error
    return ResumeState(positions, events)


def _positions(
    consumer: Consumer,
    channel: Channel,
    topic: str,
    pairs: Sequence[Pair],
    schemas: Mapping[int, Any],
    horizon: float,
) -> Iterator[tuple[str, Position]]:
    if channel.sequencing is not Sequencing.EXCHANGE_IDS:
        return  # each connection starts with a snapshot
    count = len(consumer.list_topics(topic, timeout=_READ_TIMEOUT).topics[topic].partitions)
    keys_by_partition: dict[int, set[bytes]] = {}
    for pair in pairs:
        key = pair.symbol.encode()
        keys_by_partition.setdefault(partition_of(key, count), set()).add(key)
    oldest = int((time.time() - horizon) * 1000)
    for partition, keys in sorted(keys_by_partition.items()):
        yield from _newest(consumer, topic, partition, keys, partial(_position, channel, schemas), oldest)


def partition_of(key: bytes, count: int) -> int:
    """Return the partition that the publisher's partitioner chooses for `key`."""
    return zlib.crc32(key) % count


def _newest(
    consumer: Consumer,
    topic: str,
    partition: int,
    keys: set[bytes],
    decode: Callable[[bytes | None], tuple[Position, bool] | None],
    oldest: int,
) -> Iterator[tuple[str, Position]]:
    """Yield the newest position of each key, reading backwards in growing chunks."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_READ_TIMEOUT)
    size, best = _FIRST_CHUNK, dict[bytes, Position]()
    while keys and high > low:
        start = max(low, high - size)
        messages = _read(consumer, topic, partition, start, high)
        for message in reversed(messages):
            key = message.key()
            if key in keys and (decoded := decode(message.value())):
                position, live = decoded
                newest = best.get(key)
                if newest is None or _order(position) > _order(newest):
                    best[key] = position
                if live:  # older records of this symbol have smaller ids
                    keys = keys - {key}
        if not messages or messages[0].timestamp()[1] < oldest:
            break
        high, size = start, size * _GROWTH
    for key, position in best.items():
        yield key.decode(), position


def _order(position: Position) -> tuple[int, int]:
    return (int(position.record_id) if position.record_id.isdigit() else 0, position.timestamp)


def _position(channel: Channel, schemas: Mapping[int, Any], value: bytes | None) -> tuple[Position, bool] | None:
    """Return the position of a record and whether it was live; None if it cannot be decoded."""
    try:
        schema_id, body = wire.split(value or b"")
        record = avro.decode(body, schemas[schema_id], channel.reader_schema)
    except (wire.MalformedHeader, KeyError, ValueError, EOFError, IndexError, TypeError) as error:
        log.warning("unreadable record skipped", error=str(error))
        return None
    live = record["vendor_data"].get("source") in _LIVE
    time = next(record[name] for name in channel.time_columns if record[name] is not None)
    return Position(record[channel.id_column], to_micros(time)), live


def _open_gaps(consumer: Consumer, topic: str, feed: str, channel: Channel, symbols: set[str]) -> list[GapEvent]:
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=_READ_TIMEOUT)
    newest: dict[str, GapEvent] = {}
    for message in _read(consumer, topic, 0, low, high):
        try:
            event = decode(message.value() or b"")
        except DECODE_ERRORS as error:
            log.warning("unreadable gap event skipped", offset=message.offset(), error=str(error))
            continue
        if event.feed == feed and event.channel == channel.name and event.symbol in symbols:
            newest[event.gap_id] = event
    return [event for event in newest.values() if event.state is GapState.OPEN]


def _read(consumer: Consumer, topic: str, partition: int, start: int, end: int) -> list[Any]:
    """Return the records from offset `start` up to `end`, the high watermark."""
    if start >= end:
        return []
    consumer.assign([TopicPartition(topic, partition, start)])
    messages: list[Any] = []
    position, deadline = start, time.monotonic() + _READ_TIMEOUT
    while position < end:
        batch = consumer.consume(min(10_000, end - position), timeout=0.5)
        if not batch and time.monotonic() > deadline:
            raise KafkaUnreadable(
                f"{topic}[{partition}]: no records from offset {position} on, although the log ends at {end}"
            )
        for message in batch:
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
        if batch:
            position, deadline = messages[-1].offset() + 1, time.monotonic() + _READ_TIMEOUT
    return [message for message in messages if message.offset() < end]
