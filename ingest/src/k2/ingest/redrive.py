"""Frames that the ingest rejected, judged again after the adapter was mended: parsed, and sent as what they hold.

A record of such a frame names the dead letter that it comes from. It is sent when it was not sent before: its id says
whether Gold has it, and Gold keeps the first of two.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from k2.common.kafka_connection import KafkaConnection
from k2.ingest.exchanges.base import (
    AGGREGATE,
    INEXACT,
    MALFORMED,
    MALFORMED_ITEM,
    UNSUBSCRIBED,
    Adapter,
    InvalidItem,
    MalformedFrame,
    SequencedRecord,
)
from k2.ingest.kafka.publisher import Publisher, Topics
from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import Channel
from k2.schemas.records.trade import Trade

# The errors that the adapter alone decides on. Of others, a frame says too little: they depend on those before it.
CATEGORIES: Final = (MALFORMED, MALFORMED_ITEM, INEXACT, AGGREGATE, UNSUBSCRIBED)
ORIGIN: Final = "dead_letter"  # in a record's vendor data: topic/partition/offset of the frame

_FLUSH_TIMEOUT: Final = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame in a dead-letter topic; `received` is its Kafka timestamp in UTC microseconds."""

    place: str
    body: bytes
    received: int


@dataclass(slots=True)
class Judged:
    """What some frames hold: the records that can be sent, and how many frames came back, by their first error."""

    records: list[Trade] = field(default_factory=list)
    frames: int = 0
    came_back: Counter[str] = field(default_factory=Counter)


def judge(adapter: Adapter, frames: Iterable[StoredFrame]) -> Judged:
    """Parse frames again. A frame of which an item is invalid still comes back, and its valid items are sent."""
    judged = Judged()
    for frame in frames:
        judged.frames += 1
        try:
            events = adapter.parse(frame.body, frame.received)
        except MalformedFrame:
            judged.came_back[MALFORMED] += 1
            continue
        records = [event.record for event in events if isinstance(event, SequencedRecord)]
        judged.records += [_with_origin(record, frame.place) for record in records if isinstance(record, Trade)]
        if invalid := [event for event in events if isinstance(event, InvalidItem)]:
            judged.came_back[invalid[0].error] += 1
        elif not records:  # a message without records is no trade that was rejected by mistake
            judged.came_back[MALFORMED] += 1
    return judged


def unsent(records: Iterable[Trade], stored: Collection[str]) -> list[Trade]:
    """Return the records whose ids are not stored, each id once."""
    by_id = {str(record.message_id): record for record in reversed(list(records))}
    return [record for name, record in reversed(by_id.items()) if name not in stored]


def _with_origin(record: Trade, place: str) -> Trade:
    return msgspec.structs.replace(record, vendor_data=(*record.vendor_data, (ORIGIN, place)))


async def publish(
    kafka: KafkaConnection, channel: Channel, topic: str, feed: str, schema_id: int, records: Collection[Trade]
) -> int:
    """Send records, as of now; return how many Kafka has not acknowledged. Raises `KafkaUnreachable`."""
    publisher = Publisher(kafka, channel, Topics(topic, topic, topic), feed, schema_id, Stats(time.time()))
    polling = asyncio.create_task(publisher.run())
    try:
        await publisher.check()
        for record in records:
            if publisher.blocked:
                await publisher.wait_unblocked()
            # With the time of now: by the time of arrival, retention may be due already.
            publisher.send_acked(record)
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        lost = await publisher.close(_FLUSH_TIMEOUT)
    return lost
