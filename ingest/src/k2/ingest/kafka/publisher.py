"""The Kafka producer of ingest, the only module that writes to Kafka.

A record counts as delivered on its delivery report, never before. The producer is idempotent with acks=all. Nothing is
dropped: rejected records are sent again, a full buffer stops the session from reading, a producer that hangs is
replaced, and records that remain when the process must exit are reported by count.
"""

import asyncio
import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from k2.common import logs
from k2.common.kafka_connection import ConnectionErrors, KafkaConnection
from k2.ingest.kafka import probe, producer_settings
from k2.ingest.kafka.circuit_breaker import Circuit, State
from k2.ingest.kafka.identity import IdentityFiles
from k2.ingest.kafka.watchdog import Verdict, Watchdog
from k2.ingest.sequencing.gaps import GapEvent
from k2.ingest.telemetry.stats import Stats
from k2.schemas import topics
from k2.schemas.channels import Channel, Record
from k2.schemas.values import from_micros

log = logs.get("publisher")

Message = tuple[str, bytes, str, int, Any]  # topic, value, key, timestamp in milliseconds, headers if any
Report = Callable[[KafkaError | None, Any], None]

CAPACITY: Final = 100_000  # records in flight
MAX_FRAME: Final = 1 << 20  # bytes; the largest frame a socket accepts and a dead letter stores whole
MAX_RECORD: Final = 2 * MAX_FRAME
_FULL: Final = CAPACITY * 4 // 5  # records in flight above which the socket is not read
_ANY_PARTITION: Final = -1  # the partitioner chooses
_ACK_TIMEOUT: Final = 10.0
_POLL_EVERY: Final = 128  # records between two polls for delivery reports
_BUSY_POLL: Final = 0.002
_IDLE_POLL: Final = 0.02
_WATCH_EVERY: Final = 1.0
_STALL_AFTER: Final = 30.0  # seconds; a slow broker may take as long as librdkafka waits for a response
_CONFIRM_AFTER: Final = 10.0
_REPLACEMENTS: Final = 2


class KafkaUnreachable(ConnectionError):
    """No broker answers, or a topic of the feed is missing."""


class ProducerFatal(RuntimeError):
    """The producer reported a fatal error, or hangs and so do new ones; only a new process can recover."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one channel of a feed. Without one of evidence, no id can be judged as never issued."""

    records: str
    gaps: str
    dead_letters: str
    evidence: str = ""
    instruments: str = ""


class Publisher:
    """Send the records, gap events and dead letters of one channel of a feed, and account for each of them."""

    def __init__(
        self, kafka: KafkaConnection, channel: Channel, names: Topics, feed: str, schema_id: int, stats: Stats
    ) -> None:
        self._connection_errors = ConnectionErrors()
        self._kafka = kafka
        self._identity = IdentityFiles(kafka)
        self._producer = self._open()
        self._topics = names
        self._feed = feed.encode()
        self._encoder = channel.encoder(schema_id)
        self._stats = stats
        self._unacknowledged: dict[int, Message] = {}  # by number, in the order of sending
        self._awaited: dict[int, Report] = {}  # what takes the report on a message that somebody waits for
        self._rejected: deque[int] = deque()  # numbers of records that Kafka or a full buffer rejected, to be resent
        self._retried: set[int] = set()  # numbers of records that were rejected and not acknowledged since
        self._watchdog = Watchdog(_STALL_AFTER, _CONFIRM_AFTER, _REPLACEMENTS)
        self._circuit = Circuit(CAPACITY, _ACK_TIMEOUT, time.monotonic())
        self._writable = asyncio.Event()
        self._writable.set()
        self._has_work = asyncio.Event()
        self._fatal = ""
        self._now = 0
        self._since_poll = 0
        self.memory_pressure = False  # set by the memory monitor
        self.keeps_evidence = bool(names.evidence)
        self.keeps_instruments = bool(names.instruments)
        self.clock_offset = 0  # milliseconds that this machine's clock is ahead, if that is more than a second
        self.sent = 0
        self.acknowledged = 0

    async def check(self, timeout: float = 10.0) -> None:
        """Raise `KafkaUnreachable` unless a broker answers and has the topics. `timeout` is in seconds.

        An installation of an earlier version has no topic of evidence or of instruments: then none are kept.
        """
        required = (self._topics.records, self._topics.gaps, self._topics.dead_letters)
        try:
            metadata = await asyncio.to_thread(self._producer.list_topics, timeout=timeout)
        except KafkaException as error:
            why = self._connection_errors.describe(error, self._producer)
            raise KafkaUnreachable(f"Kafka at {self._kafka}: {why}") from error
        missing = [name for name in required if name not in metadata.topics]
        if missing:
            raise KafkaUnreachable(
                f"Kafka at {self._kafka} has no topic {', '.join(missing)}{self._kafka.restriction}; create it first"
            )
        self.keeps_evidence = self._topics.evidence in metadata.topics
        self.keeps_instruments = self._topics.instruments in metadata.topics
        if self._topics.instruments and not self.keeps_instruments:
            log.warning("no topic of instruments: their versions are not kept", topic=self._topics.instruments)
        if self._topics.evidence and not self.keeps_evidence:
            log.warning("no topic of evidence: no id will be judged as never issued", topic=self._topics.evidence)

    @property
    def in_flight(self) -> int:
        """The number of records sent and not yet acknowledged."""
        return self.sent - self.acknowledged

    @property
    def blocked(self) -> bool:
        """Whether the session must stop reading the socket."""
        return self.memory_pressure or not self._circuit.closed or self.sent - self.acknowledged > _FULL

    async def wait_unblocked(self) -> None:
        """Wait until the socket may be read again."""
        while self.blocked:
            self._writable.clear()
            await self._writable.wait()

    def send(self, record: Record) -> None:
        """Send one record, keyed by its symbol, with its arrival as the Kafka timestamp."""
        if self.sent == self.acknowledged:
            self._has_work.set()
        self.sent = number = self.sent + 1
        if self.clock_offset:
            record = record.with_clock_offset(self.clock_offset)
        arrived = record.ingestion_timestamp // 1000
        message = (self._topics.records, self._encoder.encode(record), record.symbol, arrived, None)
        self._unacknowledged[number] = message
        self._produce(number, message, partial(self._on_report, number))
        self._since_poll += 1
        if self._since_poll >= _POLL_EVERY:
            self.poll()

    def send_acked(self, record: Record) -> Awaitable[None]:
        """Send one record. The result completes when Kafka acknowledges it."""
        if self.clock_offset:
            record = record.with_clock_offset(self.clock_offset)
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

    def send_instrument(self, value: bytes, raw_symbol: str) -> Awaitable[None]:
        """Send an encoded version of an instrument. The result completes when Kafka acknowledges it."""
        return self._send_acked(self._topics.instruments, value, raw_symbol)

    def send_dead_letter(self, frame: bytes, error: str, reason: str, symbol: str = "", items: bytes = b"") -> None:
        """Send an invalid frame as received; of a frame above `MAX_FRAME`, only the first 4 KiB.

        `items` names its invalid items, as `dead_letters.encode_items` writes them; it is empty for a frame that is
        invalid as a whole.
        """
        if len(frame) > MAX_FRAME:
            reason = f"{len(frame)} bytes, sha256 {hashlib.sha256(frame).hexdigest()}, truncated to 4 KiB: {reason}"
            frame = frame[:4096]
        headers = [
            (topics.DEAD_LETTER_ERROR, error.encode()),
            (topics.DEAD_LETTER_REASON, reason[:500].encode()),
            (topics.DEAD_LETTER_FEED, self._feed),
        ]
        if items:
            headers.append((topics.DEAD_LETTER_ITEMS, items))
        self._stats.dead_letters[error] += 1
        self._send_acked(self._topics.dead_letters, frame, symbol, headers)

    def poll(self) -> None:
        """Process delivery reports, resend rejected records and update the circuit breaker."""
        self._since_poll = 0
        self._now = time.time_ns() // 1000
        self._producer.poll(0)
        if self._fatal:
            raise ProducerFatal(f"{self._fatal}; {self.in_flight} records are not acknowledged")
        failing, now = bool(self._rejected), time.monotonic()
        state = self._circuit.update(self.in_flight, self.acknowledged, failing, now)
        if failing and state is not State.CLOSED:
            self._resend()
        self._stats.fold()
        self._stats.circuit, self._stats.in_flight = int(state), self.in_flight
        self._stats.unaccepted = len(self._retried)
        self._stats.heartbeats["publisher"] = now
        if not self.blocked:
            self._writable.set()

    async def run(self) -> None:
        """Poll until cancelled, and replace a producer that hangs. Raises `ProducerFatal`."""
        watching = asyncio.create_task(self._watch_loop())
        try:
            while not watching.done():
                self.poll()
                if self.in_flight:
                    await asyncio.sleep(_BUSY_POLL)
                    continue
                self._has_work.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE_POLL):  # Python 3.11's `wait_for` can swallow a cancellation
                        await self._has_work.wait()
            watching.result()
        finally:
            watching.cancel()

    def replace_producer(self) -> None:
        """Send all unacknowledged records again with a new producer, in order; the old one is abandoned.

        Records that Kafka has although the old producer never reported them are stored twice, with the same id. What is
        acknowledged counts once: only the first report on a record is taken.

        Raises `KafkaUnreachable` if no other can be made, as without a file of its identity; the old one goes on.
        """
        self._producer.poll(0)
        abandoned, self._producer = self._producer, self._open()
        self._rejected.clear()
        for number, message in list(self._unacknowledged.items()):
            self._produce(number, message, self._report_on(number))
        threading.Thread(target=_destroy, args=(abandoned,), name="abandoned-producer", daemon=True).start()

    def _open(self) -> Producer:
        """Return a producer, with what the files of its identity hold now. Raises `KafkaUnreachable`."""
        try:
            return Producer({**producer_settings.of(self._kafka, CAPACITY, MAX_RECORD), "error_cb": self._on_error})
        except KafkaException as error:
            raise KafkaUnreachable(f"Kafka at {self._kafka}: {self._connection_errors.describe(error)}") from error

    async def _watch_loop(self) -> None:
        """Replace a producer that hangs, or whose identity changed. Raises `ProducerFatal` if new ones hang as well."""
        while True:
            await asyncio.sleep(_WATCH_EVERY)
            now = time.monotonic()
            if self._identity.due(self.in_flight, now):
                log.info("files of Kafka's client changed, replacing the producer", in_flight=self.in_flight)
                self._try_replace()
            progress = self._progress()
            due = self._watchdog.observe(progress, now)
            if progress is None or not due:
                self._stats.stuck = self._stuck()
                continue
            topic, _, key, *_ = self._unacknowledged[progress[0]]
            answered = await asyncio.to_thread(probe.takes_records, self._kafka, topic, key)
            now = time.monotonic()
            if self._progress() != progress:
                continue
            match self._watchdog.probed(answered=answered, now=now):
                case Verdict.REPLACE:
                    stalled = round(self._watchdog.stalled_for(now), 1)
                    log.error("producer hangs, replacing it", in_flight=self.in_flight, seconds=stalled)
                    self._stats.errors["producer_replaced"] += 1
                    self._try_replace()
                case Verdict.GIVE_UP:
                    raise ProducerFatal(f"{self._stuck()}; {_REPLACEMENTS} new producers did not help")
            self._stats.stuck = self._stuck()

    def _try_replace(self) -> None:
        try:
            self.replace_producer()
        except KafkaUnreachable as error:
            log.error("producer cannot be replaced", error=str(error))  # noqa: TRY400 - its own sentence

    def _progress(self) -> tuple[int, int] | None:
        """Return what changes with each report on the oldest record that the producer holds; None without one."""
        waiting = set(self._rejected)
        oldest = next((number for number in self._unacknowledged if number not in waiting), None)
        return None if oldest is None else (oldest, self._stats.failures)

    def _stuck(self) -> str:
        """Return why the publisher is stuck; empty if it is not, or if the fault may be Kafka's."""
        if not self._watchdog.stuck:
            return ""
        seconds = self._watchdog.stalled_for(time.monotonic())
        return f"Kafka answers, but {self.in_flight} records are not acknowledged for {seconds:.0f} s"

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
        self.sent = number = self.sent + 1

        def report(error: KafkaError | None, _: Any) -> None:
            if self._accept(number, error) is None:
                return
            del self._awaited[number]
            if topic == self._topics.records:
                self._stats.delivered[key] += 1
            if not future.done():
                future.set_result(None)

        self._has_work.set()
        message = (topic, value, key, 0, headers)
        self._unacknowledged[number], self._awaited[number] = message, report
        self._produce(number, message, report)
        return future

    def _produce(self, number: int, message: Message, report: Report) -> None:
        topic, value, key, timestamp, headers = message
        try:
            if headers:
                self._producer.produce(topic, value, key, on_delivery=report, headers=headers)
            else:  # without keywords, because they take longer than the call itself
                self._producer.produce(topic, value, key, _ANY_PARTITION, report, None, timestamp)
        except BufferError:
            self._reject(number)  # `poll` sends it again
        except KafkaException as error:
            self._accept(number, error.args[0])

    def _accept(self, number: int, error: KafkaError | None) -> Message | None:
        """Take the report on a message. Return it if it was acknowledged now, for the first time."""
        if error is not None:
            if number in self._unacknowledged:
                self._on_rejected(number, error)
            return None
        message = self._unacknowledged.pop(number, None)
        if message is not None:
            self.acknowledged += 1
            if self._retried:
                self._retried.discard(number)
        return message

    def _reject(self, number: int) -> None:
        self._rejected.append(number)
        self._retried.add(number)

    def _on_rejected(self, number: int, error: KafkaError) -> None:
        message = self._unacknowledged[number]
        self._stats.failures += 1
        self._stats.message = f"{message[0]}: {error.str()}"
        if error.fatal():
            self._fatal = error.str()
        log.error("record rejected by Kafka, resending", topic=message[0], error=error.str(), bytes=len(message[1]))
        self._reject(number)

    def _resend(self) -> None:
        for _ in range(len(self._rejected)):
            number = self._rejected.popleft()
            if (message := self._unacknowledged.get(number)) is not None:
                self._produce(number, message, self._report_on(number))

    def _report_on(self, number: int) -> Report:
        return self._awaited.get(number) or partial(self._on_report, number)

    def _on_report(self, number: int, error: KafkaError | None, _: Any) -> None:
        if error is not None or self._retried:
            sent = self._accept(number, error)
        elif (sent := self._unacknowledged.pop(number, None)) is not None:  # as `_accept`, for every record
            self.acknowledged += 1
        if sent is not None:
            stats = self._stats
            stats.delivered[sent[2]] += 1
            stats.delivery.observe(self._now - sent[3] * 1000)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.str()
        self._connection_errors(error)
        self._stats.message = error.str()
        log.warning("kafka", error=error.str(), fatal=error.fatal())


def _destroy(producer: Producer) -> None:
    """Drop what an abandoned producer holds, and the last reference to it. That may block for ever."""
    producer.purge(in_queue=True, in_flight=True, blocking=False)
