"""The Kafka producer of ingest, the only module that writes to Kafka.

A record counts as delivered on its delivery report, never before. The producer is idempotent with acks=all. Nothing is
dropped: rejected records are sent again, a full buffer stops the session from reading, and records that remain when
the process must exit are reported by count.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from k2.common import logs
from k2.ingest.kafka.circuit_breaker import Circuit, State
from k2.ingest.sequencing.gaps import GapEvent
from k2.ingest.telemetry.stats import Stats
from k2.schemas import topics
from k2.schemas.channels import Channel, Record
from k2.schemas.values import from_micros

log = logs.get("publisher")

Message = tuple[Any, ...]  # topic, value, key, timestamp in milliseconds, headers if any
Report = Callable[[KafkaError | None, Any], None]

CAPACITY: Final = 100_000  # records in flight
MAX_FRAME: Final = 1 << 20  # bytes; the largest frame a socket accepts and a dead letter stores whole
MAX_RECORD: Final = 2 * MAX_FRAME
_ACK_TIMEOUT: Final = 10.0
_POLL_EVERY: Final = 128  # records between two polls for delivery reports
_BUSY_POLL: Final = 0.002
_IDLE_POLL: Final = 0.02


class KafkaUnreachable(ConnectionError):
    """No broker answers, or a topic of the feed is missing."""


class ProducerFatal(RuntimeError):
    """The producer reported a fatal error; only a new process can recover."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one channel of a feed. Without one of evidence, no id can be judged as never issued."""

    records: str
    gaps: str
    dead_letters: str
    evidence: str = ""


class Publisher:
    """Send the records, gap events and dead letters of one channel of a feed, and account for each of them."""

    def __init__(
        self, bootstrap: str, channel: Channel, names: Topics, feed: str, schema_id: int, stats: Stats
    ) -> None:
        self._producer = Producer(_configuration(bootstrap, self._on_error))
        self._bootstrap = bootstrap
        self._topics = names
        self._feed = feed.encode()
        self._encoder = channel.encoder(schema_id)
        self._stats = stats
        self._rejected: deque[tuple[Message, Report]] = deque()
        self._resent = 0  # rejected records that were sent again and are not yet reported on
        self._circuit = Circuit(CAPACITY, _ACK_TIMEOUT, time.monotonic())
        self._writable = asyncio.Event()
        self._writable.set()
        self._has_work = asyncio.Event()
        self._fatal = ""
        self._now = 0
        self._since_poll = 0
        self.memory_pressure = False  # set by the memory monitor
        self.keeps_evidence = bool(names.evidence)
        self.sent = 0
        self.acknowledged = 0

    async def check(self, timeout: float = 10.0) -> None:
        """Raise `KafkaUnreachable` unless a broker answers and has the topics. `timeout` is in seconds.

        An installation of an earlier version has no topic of evidence: then none is kept.
        """
        required = (self._topics.records, self._topics.gaps, self._topics.dead_letters)
        try:
            metadata = await asyncio.to_thread(self._producer.list_topics, timeout=timeout)
        except KafkaException as error:
            raise KafkaUnreachable(f"Kafka at {self._bootstrap}: {error.args[0].str()}") from error
        missing = [name for name in required if name not in metadata.topics]
        if missing:
            raise KafkaUnreachable(f"Kafka at {self._bootstrap} has no topic {', '.join(missing)}; create it first")
        self.keeps_evidence = self._topics.evidence in metadata.topics
        if self._topics.evidence and not self.keeps_evidence:
            log.warning("no topic of evidence: no id will be judged as never issued", topic=self._topics.evidence)

    @property
    def in_flight(self) -> int:
        """The number of records sent and not yet acknowledged."""
        return self.sent - self.acknowledged

    @property
    def blocked(self) -> bool:
        """Whether the session must stop reading the socket."""
        return self.memory_pressure or self._circuit.state is not State.CLOSED or self.in_flight > CAPACITY * 4 // 5

    async def wait_unblocked(self) -> None:
        """Wait until the socket may be read again."""
        while self.blocked:
            self._writable.clear()
            await self._writable.wait()

    def send(self, record: Record) -> None:
        """Send one record, keyed by its symbol, with its arrival as the Kafka timestamp."""
        self.sent += 1
        self._has_work.set()
        arrived = record.ingestion_timestamp // 1000
        message = (self._topics.records, self._encoder.encode(record), record.symbol, arrived)
        self._produce(message, partial(self._on_report, arrived))
        self._since_poll += 1
        if self._since_poll >= _POLL_EVERY:
            self.poll()

    def send_acked(self, record: Record) -> Awaitable[None]:
        """Send one record. The result completes when Kafka acknowledges it."""
        return self._send_acked(self._topics.records, self._encoder.encode(record), record.symbol)

    def send_gap(self, event: GapEvent) -> Awaitable[None]:
        """Send a gap event. The result completes when Kafka acknowledges it."""
        return self._send_acked(self._topics.gaps, event.encode(), event.symbol)

    def send_evidence(self, request: str, status: int, received: int, body: bytes) -> tuple[str, Awaitable[None]]:
        """Send an answer of the exchange, as received. Return its key, the SHA-256 of the body.

        `received` is in UTC microseconds. The result completes when Kafka acknowledges it.
        """
        key = hashlib.sha256(body).hexdigest()
        when = from_micros(received).isoformat(timespec="microseconds").replace("+00:00", "Z")
        evidence = {"request": request, "status": status, "received_at": when, "body": body.decode()}
        return key, self._send_acked(self._topics.evidence, msgspec.json.encode(evidence), key)

    def send_dead_letter(self, frame: bytes, error: str, reason: str, symbol: str = "") -> None:
        """Send an invalid frame as received; of a frame above `MAX_FRAME`, only the first 4 KiB."""
        if len(frame) > MAX_FRAME:
            reason = f"{len(frame)} bytes, sha256 {hashlib.sha256(frame).hexdigest()}, truncated to 4 KiB: {reason}"
            frame = frame[:4096]
        headers = [
            (topics.DEAD_LETTER_ERROR, error.encode()),
            (topics.DEAD_LETTER_REASON, reason[:500].encode()),
            (topics.DEAD_LETTER_FEED, self._feed),
        ]
        self._stats.dead_letters[error] += 1
        self._send_acked(self._topics.dead_letters, frame, symbol, headers)

    def poll(self) -> None:
        """Process delivery reports, resend rejected records and update the circuit breaker."""
        self._since_poll = 0
        self._now = time.time_ns() // 1000
        self._producer.poll(0)
        if self._fatal:
            raise ProducerFatal(f"{self._fatal}; {self.in_flight} records are not acknowledged")
        failing = bool(self._rejected)
        state = self._circuit.update(self.in_flight, self.acknowledged, failing, time.monotonic())
        if failing and state is not State.CLOSED:
            self._resend()
        self._stats.circuit, self._stats.in_flight = int(state), self.in_flight
        self._stats.unaccepted = len(self._rejected) + self._resent
        if not self.blocked:
            self._writable.set()

    async def run(self) -> None:
        """Poll until cancelled. Raises `ProducerFatal`."""
        while True:
            self.poll()
            if self.in_flight:
                await asyncio.sleep(_BUSY_POLL)
                continue
            self._has_work.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_POLL):  # Python 3.11's `wait_for` can swallow a cancellation
                    await self._has_work.wait()

    async def close(self, timeout: float) -> int:
        """Flush for at most `timeout` seconds. Return how many records were not acknowledged."""
        deadline = time.monotonic() + timeout
        while self.in_flight and time.monotonic() < deadline and not self._fatal:
            self._resend()
            await asyncio.sleep(_BUSY_POLL)
            self.poll()
        if self.in_flight:
            log.error("records not delivered", count=self.in_flight, timeout=timeout)
        return self.in_flight

    def _send_acked(self, topic: str, value: bytes, key: str, headers: Any = None) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        message = (topic, value, key, 0, headers)

        def report(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                self._queue_resend(error, message, report)
                return
            self.acknowledged += 1
            if topic == self._topics.records:
                self._stats.delivered[key.encode()] += 1
            if not future.done():
                future.set_result(None)

        self.sent += 1
        self._has_work.set()
        self._produce(message, report)
        return future

    def _produce(self, message: Message, report: Report) -> None:
        topic, value, key, timestamp, *headers = message
        try:
            if headers and headers[0]:
                self._producer.produce(topic, value, key, on_delivery=report, headers=headers[0])
            else:
                self._producer.produce(topic, value, key, on_delivery=report, timestamp=timestamp)
        except BufferError:
            self._rejected.append((message, report))  # `poll` sends it again
        except KafkaException as error:
            self._queue_resend(error.args[0], message, report)

    def _queue_resend(self, error: KafkaError, message: Message, report: Report) -> None:
        self._stats.failures += 1
        self._stats.message = f"{message[0]}: {error.str()}"
        if error.fatal():
            self._fatal = error.str()
        log.error("record rejected by Kafka, resending", topic=message[0], error=error.str(), bytes=len(message[1]))
        self._rejected.append((message, report))

    def _resend(self) -> None:
        for _ in range(len(self._rejected)):
            message, report = self._rejected.popleft()
            self._resent += 1
            self._produce(message, self._count_resent(report))

    def _count_resent(self, report: Report) -> Report:
        def counted(error: KafkaError | None, message: Any) -> None:
            self._resent -= 1
            report(error, message)

        return counted

    def _on_report(self, arrived: int, error: KafkaError | None, message: Any) -> None:
        if error is not None:  # a rejected message has lost its timestamp in librdkafka
            again = (message.topic(), message.value(), message.key(), arrived)
            self._queue_resend(error, again, partial(self._on_report, arrived))
            return
        self.acknowledged += 1
        stats = self._stats
        stats.delivered[message.key()] += 1
        stats.delivery.observe(self._now - arrived * 1000)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.str()
        self._stats.message = error.str()
        log.warning("kafka", error=error.str(), fatal=error.fatal())


def _configuration(bootstrap: str, on_error: Any) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "zstd",
        # No timeout may drop a record: records wait for Kafka, the circuit breaker stops the socket.
        "message.timeout.ms": 0,
        "linger.ms": 1,
        "batch.num.messages": 10_000,
        "queue.buffering.max.messages": CAPACITY + CAPACITY // 2,
        "queue.buffering.max.kbytes": 256 << 10,
        "message.max.bytes": MAX_RECORD,
        "reconnect.backoff.max.ms": 2000,
        "topic.metadata.refresh.interval.ms": 10_000,  # new partitions are used at once, and by every replica
        "partitioner": "consistent",  # CRC32 of the key: `k2.ingest.kafka.resume` finds a symbol's partition by it
        "error_cb": on_error,
        "log_level": 2,  # `error_cb` logs the rest as JSON
    }
