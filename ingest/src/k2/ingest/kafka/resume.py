"""The resume position of a shard, read from Kafka: no other state needs to outlive a pod.

A symbol's live records are ordered by listing and id within a partition, so the newest live record is the resume
position, however old it is. It is looked for wherever it can be: in the partition that the topic's number of partitions
gives, and in those that any smaller number gave. Open gaps, and those to be judged again, are in the gap topic; its
events are also what is known of a symbol that the topic of records no longer holds.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import accumulate
from math import inf
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastavro import parse_schema

from k2.common import logs
from k2.common.kafka_connection import ConnectionErrors, KafkaConnection
from k2.ingest.backfill.policy import Policy
from k2.ingest.exchanges.base import DECODE_ERRORS, NO_ID, Adapter
from k2.ingest.kafka.partitions import partition_of
from k2.ingest.sequencing.gaps import GapEvent, decode, gap_from_event, of_protocol
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.sequencing.tracker import Position, Tracker
from k2.schemas.channels import Channel, Sequencing
from k2.schemas.codecs import avro, wire
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source, listing_of
from k2.schemas.states import GapReason, GapState
from k2.schemas.values import to_micros

log = logs.get("resume")

_FIRST_CHUNK: Final = 1000
_GROWTH: Final = 4
_LARGEST_CHUNK: Final = 50_000  # records; what is in memory at once
READ_TIMEOUT: Final = 10.0
_LONGEST_SEARCH: Final = 20.0  # seconds, for symbols that did not trade for long
_METADATA_LAG: Final = 600_000  # milliseconds for which a producer may not know of new partitions
_LIVE: Final = frozenset({Source.LIVE.value, Source.SNAPSHOT.value})
_SETTINGS: Final = frozenset({GapReason.MAX_AGE, GapReason.MAX_IDS, GapReason.DISABLED})
_END: Final = -1


class KafkaUnreadable(ConnectionError):
    """Kafka did not return the records it has."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the records and gaps of one protocol of an exchange have in common: their ids."""

    name: str
    has_sequence: bool
    record_ids: str = ".+"  # a regular expression

    def wrote(self, record_id: str) -> bool:
        """Return whether a record with this id is of the protocol."""
        return re.fullmatch(self.record_ids, record_id) is not None


def protocol_of(adapter: Adapter, name: str, channel: Channel) -> Protocol:
    """Return the protocol of an adapter, which its endpoints call `name`."""
    if channel.sequencing is not Sequencing.EXCHANGE_IDS:
        return Protocol(name, has_sequence=False)
    return Protocol(name, adapter.has_sequence, adapter.record_ids)


@dataclass(frozen=True, slots=True)
class ResumeState:
    """What an earlier process left: the newest delivered record by symbol, and its gaps."""

    positions: Mapping[str, Position]
    gaps: Sequence[GapEvent]  # open
    given_up: Sequence[GapEvent] = ()  # unrecoverable
    never_issued: Sequence[GapEvent] = ()
    other_protocol: frozenset[str] = frozenset()  # symbols with newer records, or open gaps, of another protocol
    from_gaps: frozenset[str] = frozenset()  # symbols whose position is only known from their last gap
    unknown: frozenset[str] = frozenset()  # symbols that were not found in the time that the search may take


def open_consumer(kafka: KafkaConnection, errors: ConnectionErrors) -> Consumer:
    """Return a consumer for `read_records`, with what the files of its identity hold now. Raises `KafkaUnreadable`."""
    configuration = {
        "group.id": f"k2-resume-{uuid4()}",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": False,
        # What is read is there already. At a log's end, the broker holds an answer back for so long, and with it the
        # next partition that is assigned: half a second each, by default, before the first trade after a restart.
        "fetch.wait.max.ms": 5,
    }
    try:
        return Consumer({**kafka.client(errors), **configuration})
    except KafkaException as error:
        raise KafkaUnreadable(f"Kafka at {kafka}: {errors.describe(error)}") from error


def read(
    kafka: KafkaConnection,
    *,
    channel: Channel,
    records: str,
    gaps: str,
    feed: str,
    pairs: Sequence[Pair],
    schemas: Mapping[int, str],
    protocol: Protocol,
) -> ResumeState:
    """Return the resume state of `pairs` in the topic `records`.

    Only what `protocol` wrote counts: ids of another protocol mean other records. `schemas` are the Avro schemas of
    the topic by id. Raises `KafkaUnreadable`.
    """
    errors = ConnectionErrors()
    parsed = {schema_id: parse_schema(msgspec.json.decode(text)) for schema_id, text in schemas.items()}
    symbols = {pair.symbol for pair in pairs}
    with closing(open_consumer(kafka, errors)) as consumer:
        try:
            search = _Search(consumer, records, partial(_position, channel, parsed), protocol)
            if channel.sequencing is Sequencing.EXCHANGE_IDS:  # else each connection starts with a snapshot
                search.run({symbol.encode() for symbol in symbols})
            events = _gap_events(consumer, gaps, feed, channel, symbols)
        except KafkaException as error:
            raise KafkaUnreadable(f"Kafka at {kafka}: {errors.describe(error, consumer)}") from error
    own = [event for event in events if of_protocol(event, protocol.name, has_sequence=protocol.has_sequence)]
    positions = {key.decode(): entry.position for key, entry in search.newest.items()}
    from_gaps = _positions_from(own, symbols - positions.keys())
    others = {event.symbol for event in events if event not in own and event.state is GapState.OPEN}
    by_state = {state: [event for event in own if event.state is state] for state in GapState}
    return ResumeState(
        from_gaps | positions,
        by_state[GapState.OPEN],
        by_state[GapState.UNRECOVERABLE],
        by_state[GapState.NEVER_ISSUED],
        frozenset(others | {key.decode() for key in search.other_protocol}),
        frozenset(from_gaps),
        frozenset(key.decode() for key in search.unfinished) - from_gaps.keys(),
    )


def apply(
    state: ResumeState,
    pairs: Sequence[Pair],
    tracker: Tracker,
    ledger: GapLedger,
    policy: Policy,
    rules: str,
    now: int,
    waiting: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Continue from a resume state. `now` is in UTC microseconds, `waiting` the ids of received records by symbol.

    A gap that was given up is opened again if it was judged by other rules than `rules`, or because of a setting that
    allows it now.
    """
    by_symbol = {pair.symbol: pair for pair in pairs}
    for symbol, position in state.positions.items():
        earlier = replace(position, timestamp=min(position.timestamp, now))
        tracker.resume(by_symbol[symbol], earlier, waiting.get(symbol, ()))
    judged = [event for event in state.given_up if event.reason != GapReason.NO_HISTORY]
    again = [event for event in judged if event.reason in _SETTINGS or event.rules != rules]
    for event in [*state.gaps, *again]:
        gap = gap_from_event(event, by_symbol[event.symbol])
        if ledger.has(gap):
            continue  # this process carried the symbol before
        if event.state is GapState.OPEN or policy.exclusion(gap, now) is None:
            tracker.reopen(gap)
            ledger.reopen(gap, event)
    for event in state.never_issued:
        gap = gap_from_event(event, by_symbol[event.symbol])
        if ledger.has(gap):
            continue
        tracker.keep_revocable(gap, event.missing or ((gap.first_id, gap.last_id),))
        ledger.recall(gap, event)
    log.info("resumed", symbols=len(state.positions), open_gaps=len(state.gaps), note=summary(state))


def summary(state: ResumeState) -> str:
    """Return what could not be resumed from, for people; empty if there is nothing to say."""
    parts = (
        (state.other_protocol, "newer records or open gaps are of another protocol, and were not resumed from"),
        (state.from_gaps, "no record is left in Kafka; resumed from the last gap"),
        (state.unknown, "no record found in time; trades missed before the start are not detected"),
    )
    return "; ".join(f"{_names(symbols)}: {text}" for symbols, text in parts if symbols)


def _names(symbols: Iterable[str]) -> str:
    names = sorted(symbols)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


@dataclass(frozen=True, slots=True)
class _Found:
    position: Position
    written: float = -inf  # Kafka's time of the newest live record, in milliseconds; -inf if none was found


@dataclass(slots=True)
class _Search:
    """Looks for the newest record of each key, backwards from the ends of the partitions."""

    consumer: Consumer
    topic: str
    decode: Callable[[bytes | None], tuple[Position, bool] | None]
    protocol: Protocol
    newest: dict[bytes, _Found] = field(default_factory=dict)
    other_protocol: set[bytes] = field(default_factory=set)
    unfinished: set[bytes] = field(default_factory=set)
    _deadline: float = 0.0

    def run(self, keys: set[bytes]) -> None:
        """Look for all keys."""
        self._deadline = time.monotonic() + _LONGEST_SEARCH
        count = len(self.consumer.list_topics(self.topic, timeout=READ_TIMEOUT).topics[self.topic].partitions)
        bounds = {partition: self._bounds(partition) for partition in range(count)}
        for partition, own in _grouped(keys, lambda key: (partition_of(key, count),)).items():
            self._scan(partition, dict.fromkeys(own, inf), *bounds[partition])
        until = self._last_written_by(count, bounds)
        for partition, own in _grouped(keys, lambda key: _earlier_partitions(key, count)).items():
            # Of all counts that gave this partition, producers used the largest last.
            limits = {
                key: max(until[number] for number in range(1, count) if partition_of(key, number) == partition)
                for key in own
            }
            # A live record elsewhere that was written later is the newer one.
            open_keys = {key: limit for key, limit in limits.items() if self._written(key) < limit}
            if open_keys:
                low, high = bounds[partition]
                self._scan(partition, open_keys, low, self._offset_at(partition, max(open_keys.values()), high))

    def _written(self, key: bytes) -> float:
        entry = self.newest.get(key)
        return entry.written if entry else -inf

    def _bounds(self, partition: int) -> tuple[int, int]:
        low, high = self.consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=READ_TIMEOUT)
        return low, high

    def _last_written_by(self, count: int, bounds: Mapping[int, tuple[int, int]]) -> list[float]:
        """Return until when a producer may have known of fewer partitions, by their number, in milliseconds.

        That is until the first record of any partition beyond them, and a while longer.
        """
        first = [inf] * count
        pending = {partition for partition, (low, high) in bounds.items() if high > low}
        places = [TopicPartition(self.topic, partition, bounds[partition][0]) for partition in pending]
        self.consumer.assign(places)
        deadline = time.monotonic() + READ_TIMEOUT
        while pending:
            batch = self.consumer.consume(1000, timeout=0.5)
            if not batch and time.monotonic() > deadline:
                raise KafkaUnreadable(f"{self.topic}: no first record of partitions {sorted(pending)}")
            for message in batch:
                if message.error():
                    raise KafkaException(message.error())
                partition = message.partition()
                if partition in pending:
                    pending.discard(partition)
                    first[partition] = message.timestamp()[1]
                    self.consumer.pause([TopicPartition(self.topic, partition)])
        self.consumer.resume(places)  # else they would stay paused when they are assigned again
        earliest_beyond = list(accumulate(reversed(first), min))[::-1]  # of the partitions from each index on
        return [earliest + _METADATA_LAG for earliest in earliest_beyond]

    def _offset_at(self, partition: int, millis: float, high: int) -> int:
        """Return the offset of the first record at or after a time; `high` if there is none or it is not known."""
        if millis == inf:
            return high
        (place,) = self.consumer.offsets_for_times(
            [TopicPartition(self.topic, partition, int(millis))], timeout=READ_TIMEOUT
        )
        return high if place.offset <= _END else min(high, place.offset)

    def _scan(self, partition: int, keys: Mapping[bytes, float], low: int, high: int) -> None:
        """Look for keys in growing chunks backwards from offset `high`, until what is found elsewhere is newer."""
        open_keys, size = set(keys), _FIRST_CHUNK
        while open_keys and high > low:
            if time.monotonic() > self._deadline:
                log.warning(
                    "search given up", topic=self.topic, partition=partition, offset=high, symbols=len(open_keys)
                )
                self.unfinished |= {key for key in open_keys if key not in self.newest}
                return
            start = max(low, high - size)
            messages = read_records(self.consumer, self.topic, partition, start, high)
            for message in reversed(messages):
                if message.key() in open_keys:
                    self._take(message, open_keys)
            if messages:
                oldest = messages[0].timestamp()[1]
                open_keys = {key for key in open_keys if self._written(key) < oldest}
            high, size = start, min(size * _GROWTH, _LARGEST_CHUNK)

    def _take(self, message: Any, open_keys: set[bytes]) -> None:
        if (decoded := self.decode(message.value())) is None:
            return
        key, (position, live) = message.key(), decoded
        entry = self.newest.get(key)
        if not self.protocol.wrote(position.record_id):
            if entry is None:
                self.other_protocol.add(key)
            return
        written = float(message.timestamp()[1]) if live else -inf
        if entry is None or _order(position) > _order(entry.position):
            self.newest[key] = _Found(position, max(written, entry.written if entry else -inf))
        if live:  # older records of this symbol have smaller ids, or an earlier listing
            open_keys.discard(key)


def _grouped(keys: set[bytes], places: Callable[[bytes], Iterable[int]]) -> dict[int, set[bytes]]:
    groups: dict[int, set[bytes]] = {}
    for key in sorted(keys):
        for partition in places(key):
            groups.setdefault(partition, set()).add(key)
    return dict(sorted(groups.items()))


def _earlier_partitions(key: bytes, count: int) -> set[int]:
    """Return the partitions, but for the present one, that smaller numbers of partitions give a key."""
    return {partition_of(key, number) for number in range(1, count)} - {partition_of(key, count)}


def _order(position: Position) -> tuple[int, int, int]:
    number = int(position.record_id) if position.record_id.isdigit() else NO_ID
    return position.listing, number, position.timestamp


def _position(channel: Channel, schemas: Mapping[int, Any], value: bytes | None) -> tuple[Position, bool] | None:
    """Return the position of a record and whether it was live; None if it cannot be decoded."""
    try:
        schema_id, body = wire.split(value or b"")
        record = avro.decode(body, schemas[schema_id], channel.reader_schema)
        listing = listing_of(record["vendor_data"])
    except (wire.MalformedHeader, KeyError, ValueError, EOFError, IndexError, TypeError) as error:
        log.warning("unreadable record skipped", error=str(error))
        return None
    live = record["vendor_data"].get("source") in _LIVE
    time = next(record[name] for name in channel.time_columns if record[name] is not None)
    return Position(record[channel.id_column], to_micros(time), listing), live


def _positions_from(events: Iterable[GapEvent], symbols: Iterable[str]) -> dict[str, Position]:
    """Return the end of the last gap of each symbol: everything up to it is accounted for."""
    left, positions = set(symbols), dict[str, Position]()
    for event in events:
        if event.symbol in left:
            record_id = event.last_id if event.first_id else ""
            position = Position(record_id, to_micros(datetime.fromisoformat(event.until)), event.listing)
            if event.symbol not in positions or _order(position) > _order(positions[event.symbol]):
                positions[event.symbol] = position
    return positions


def _gap_events(consumer: Consumer, topic: str, feed: str, channel: Channel, symbols: set[str]) -> list[GapEvent]:
    """Return the newest event of each gap of the feed's channel."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=READ_TIMEOUT)
    newest: dict[str, GapEvent] = {}
    for start in range(low, high, _LARGEST_CHUNK):
        for message in read_records(consumer, topic, 0, start, min(high, start + _LARGEST_CHUNK)):
            try:
                event = decode(message.value() or b"")
            except DECODE_ERRORS as error:
                log.warning("unreadable gap event skipped", offset=message.offset(), error=str(error))
                continue
            if event.feed == feed and event.channel == channel.name and event.symbol in symbols:
                newest[event.gap_id] = event
    return list(newest.values())


def read_records(consumer: Consumer, topic: str, partition: int, start: int, end: int) -> list[Any]:
    """Return the records from offset `start` up to `end`, the high watermark."""
    if start >= end:
        return []
    consumer.assign([TopicPartition(topic, partition, start)])
    messages: list[Any] = []
    position, deadline = start, time.monotonic() + READ_TIMEOUT
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
            position, deadline = messages[-1].offset() + 1, time.monotonic() + READ_TIMEOUT
    return [message for message in messages if message.offset() < end]
