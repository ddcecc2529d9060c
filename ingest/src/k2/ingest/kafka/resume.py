"""Where an earlier process stopped, read from Kafka itself: nothing else needs to outlive a pod.

A symbol's live records are in one partition and in the order of their ids, so the newest live one tells how far the
feed came. Gaps found and not settled are in the gap topic.
"""

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastavro import parse_schema

from k2.common import logs
from k2.ingest.exchanges.base import DECODE_ERRORS
from k2.ingest.sequencing.gaps import GapEvent, GapState, decode
from k2.ingest.sequencing.ids import Position
from k2.schemas.codecs import avro, wire
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source
from k2.schemas.values import to_micros

log = logs.get("resume")

_FIRST_CHUNK: Final = 1000
_GROWTH: Final = 4
_READ_TIMEOUT: Final = 10.0
_LIVE: Final = frozenset({Source.LIVE.value, Source.SNAPSHOT.value})


class KafkaUnreadable(ConnectionError):
    """Kafka did not give back what it holds."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """How far earlier processes came: the newest trade by symbol, and the gaps that are still open."""

    positions: Mapping[str, Position]
    gaps: Sequence[GapEvent]


def read(
    bootstrap: str,
    *,
    trades: str,
    gaps: str,
    feed: str,
    pairs: Sequence[Pair],
    schemas: Mapping[int, str],
    horizon: float,
) -> Resumed:
    """What Kafka holds of `pairs`, not looking further back than `horizon` seconds.

    Raises `KafkaUnreadable`.
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
            positions = dict(_positions(consumer, trades, pairs, parsed, horizon))
            events = _open_gaps(consumer, gaps, feed, {pair.symbol for pair in pairs})
        except KafkaException as error:
            raise KafkaUnreadable(f"Kafka at {bootstrap}: {error.args[0].str()}") from error
    return Resumed(positions, events)


def _positions(
    consumer: Consumer, topic: str, pairs: Sequence[Pair], schemas: Mapping[int, Any], horizon: float
) -> Iterator[tuple[str, Position]]:
    count = len(consumer.list_topics(topic, timeout=_READ_TIMEOUT).topics[topic].partitions)
    wanted: dict[int, set[bytes]] = {}
    for pair in pairs:
        key = pair.symbol.encode()
        wanted.setdefault(partition_of(key, count), set()).add(key)
    oldest = int((time.time() - horizon) * 1000)
    for partition, keys in sorted(wanted.items()):
        yield from _newest(consumer, topic, partition, keys, schemas, oldest)


def partition_of(key: bytes, count: int) -> int:
    """The partition that the publisher's partitioner puts `key` into."""
    return zlib.crc32(key) % count


def _newest(
    consumer: Consumer, topic: str, partition: int, keys: set[bytes], schemas: Mapping[int, Any], oldest: int
) -> Iterator[tuple[str, Position]]:
    """The newest position of each key, reading backwards in growing chunks."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_READ_TIMEOUT)
    size, best = _FIRST_CHUNK, dict[bytes, Position]()
    while keys and high > low:
        start = max(low, high - size)
        messages = _read(consumer, topic, partition, start, high)
        for message in reversed(messages):
            key = message.key()
            if key in keys and (found := _position(message.value(), schemas)):
                position, live = found
                known = best.get(key)
                if known is None or _order(position) > _order(known):
                    best[key] = position
                if live:  # older records of this symbol have smaller ids
                    keys = keys - {key}
        if not messages or messages[0].timestamp()[1] < oldest:
            break
        high, size = start, size * _GROWTH
    for key, position in best.items():
        yield key.decode(), position


def _order(position: Position) -> tuple[int, int]:
    return (int(position.trade_id) if position.trade_id.isdigit() else 0, position.timestamp)


def _position(value: bytes | None, schemas: Mapping[int, Any]) -> tuple[Position, bool] | None:
    """The position of a record, and whether it came live; None for a record that is no trade of ours."""
    try:
        schema_id, body = wire.split(value or b"")
        record = avro.decode(body, schemas[schema_id])
    except (wire.MalformedHeader, KeyError, ValueError, EOFError, IndexError, TypeError) as error:
        log.warning("a record cannot be read; Silver will judge it", error=str(error))
        return None
    live = record["vendor_data"].get("source") in _LIVE
    return Position(record["trade_id"], to_micros(record["timestamp"])), live


def _open_gaps(consumer: Consumer, topic: str, feed: str, symbols: set[str]) -> list[GapEvent]:
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=_READ_TIMEOUT)
    newest: dict[str, GapEvent] = {}
    for message in _read(consumer, topic, 0, low, high):
        try:
            event = decode(message.value() or b"")
        except DECODE_ERRORS as error:
            log.warning("a gap event cannot be read", offset=message.offset(), error=str(error))
            continue
        if event.feed == feed and event.symbol in symbols:
            newest[event.gap_id] = event
    return [event for event in newest.values() if event.state is GapState.OPEN]


def _read(consumer: Consumer, topic: str, partition: int, start: int, end: int) -> list[Any]:
    """The records from `start` up to `end`, which existed when it was asked for."""
    if start >= end:
        return []
    consumer.assign([TopicPartition(topic, partition, start)])
    messages: list[Any] = []
    position, deadline = start, time.monotonic() + _READ_TIMEOUT
    while position < end:
        batch = consumer.consume(min(10_000, end - position), timeout=0.5)
        if not batch and time.monotonic() > deadline:
            raise KafkaUnreadable(f"{topic}[{partition}]: no records from offset {position}, although {end} are there")
        for message in batch:
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
        if batch:
            position, deadline = messages[-1].offset() + 1, time.monotonic() + _READ_TIMEOUT
    return [message for message in messages if message.offset() < end]
