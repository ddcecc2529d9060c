"""The only module that produces to Kafka. A record counts as delivered on its delivery report and never before.

Producing is idempotent and acknowledged by all replicas. Nothing is dropped: what Kafka refuses is sent again, what
it cannot take makes the session stop reading, and what is left when the process must end is reported by count.
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

from confluent_kafka import KafkaError, KafkaException, Producer

from k2.common import logs
from k2.ingest.kafka.circuit_breaker import Circuit, State
from k2.ingest.sequencing.gaps import GapEvent
from k2.ingest.telemetry.stats import Stats
from k2.schemas import topics
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.records.trade import Trade

log = logs.get("publisher")

Record = tuple[Any, ...]  # topic, value, key, milliseconds, and headers if it has any
Report = Callable[[KafkaError | None, Any], None]

CAPACITY: Final = 100_000  # records in flight, the bound of the buffer before Kafka
MAX_FRAME: Final = 1 << 20  # bytes; what sockets accept, and what a dead letter holds whole
MAX_RECORD: Final = 2 * MAX_FRAME
_RETRY_DELAYS: Final = 10.0
_POLL_EVERY: Final = 128  # trades between two looks at the delivery reports
_BUSY_POLL: Final = 0.002
_IDLE_POLL: Final = 0.02


class KafkaUnreachable(ConnectionError):
    """No broker answers, or it lacks the topics that the feed needs."""


class ProducerFatal(RuntimeError):
    """The producer met an error that it cannot recover from; only a new process can."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Where one feed's records go."""

    trades: str
    gaps: str
    dead_letters: str


class Publisher:
    """Sends trades, gap events and dead letters of one feed, and accounts for each."""

    def __init__(self, bootstrap: str, names: Topics, feed: str, schema_id: int, stats: Stats) -> None:
        self._producer = Producer(_configuration(bootstrap, self._on_error))
        self._bootstrap = bootstrap
        self._names = names
        self._feed = feed.encode()
        self._encoder = TradeEncoder(schema_id)
        self._stats = stats
        self._refused: deque[tuple[Record, Report]] = deque()
        self._resent = 0  # records that were refused, were sent again, and of which nothing was heard since
        self._circuit = Circuit(CAPACITY, _RETRY_DELAYS, time.monotonic())
        self._closed = asyncio.Event()
        self._closed.set()
        self._sending = asyncio.Event()
        self._fatal = ""
        self._now = 0
        self._since_poll = 0
        self.memory_pressure = False  # memory is short: set by whoever watches it
        self.sent = 0
        self.acknowledged = 0

    async def check(self, timeout: float = 10.0) -> None:
        """Raises `KafkaUnreachable` unless a broker answers and has the topics."""
        wanted = (self._names.trades, self._names.gaps, self._names.dead_letters)
        try:
            metadata = await asyncio.to_thread(self._producer.list_topics, timeout=timeout)
        except KafkaException as error:
            raise KafkaUnreachable(f"Kafka at {self._bootstrap}: {error.args[0].str()}") from error
        absent = [name for name in wanted if name not in metadata.topics]
        if absent:
            raise KafkaUnreachable(f"Kafka at {self._bootstrap} has no topic {', '.join(absent)}; create it first")

    @property
    def in_flight(self) -> int:
        """Records sent and not yet acknowledged."""
        return self.sent - self.acknowledged

    @property
    def blocked(self) -> bool:
        """Whether the socket must not be read now."""
        return self.memory_pressure or self._circuit.state is not State.CLOSED or self.in_flight > CAPACITY * 4 // 5

    async def wait_unblocked(self) -> None:
        """Returns when the socket may be read again."""
        while self.blocked:
            self._closed.clear()
            await self._closed.wait()

    def trade(self, trade: Trade) -> None:
        """Sends one trade, keyed by its symbol and stamped with its arrival."""
        self.sent += 1
        self._sending.set()
        arrived = trade.ingestion_timestamp // 1000
        record = (self._names.trades, self._encoder.encode(trade), trade.symbol, arrived)
        self._produce(record, partial(self._on_trade, arrived))
        self._since_poll += 1
        if self._since_poll >= _POLL_EVERY:
            self.poll()

    def send_trade_acked(self, trade: Trade) -> Awaitable[None]:
        """Sends one trade; the result is there when Kafka has it."""
        return self._acknowledged(self._names.trades, self._encoder.encode(trade), trade.symbol)

    def gap(self, event: GapEvent) -> Awaitable[None]:
        """Sends a gap event; the result is there when Kafka has it."""
        return self._acknowledged(self._names.gaps, event.encode(), event.symbol)

    def dead_letter(self, frame: bytes, error: str, reason: str, symbol: str = "") -> None:
        """Sends a frame that could not be trusted, as it was received; of one too large for Kafka, its beginning."""
        if len(frame) > MAX_FRAME:
            reason = f"{len(frame)} bytes, sha256 {hashlib.sha256(frame).hexdigest()}, cut after 4 KiB: {reason}"
            frame = frame[:4096]
        headers = [
            (topics.DEAD_LETTER_ERROR, error.encode()),
            (topics.DEAD_LETTER_REASON, reason[:500].encode()),
            (topics.DEAD_LETTER_FEED, self._feed),
        ]
        self._stats.dead_letters[error] += 1
        self._acknowledged(self._names.dead_letters, frame, symbol, headers)

    def poll(self) -> None:
        """Takes delivery reports, sends again what was refused, and lets the circuit judge."""
        self._since_poll = 0
        self._now = time.time_ns() // 1000
        self._producer.poll(0)
        if self._fatal:
            raise ProducerFatal(f"{self._fatal}; {self.in_flight} records were not acknowledged")
        failing = bool(self._refused)
        state = self._circuit.update(self.in_flight, self.acknowledged, failing, time.monotonic())
        if failing and state is not State.CLOSED:
            self._resend()
        self._stats.circuit, self._stats.in_flight = int(state), self.in_flight
        self._stats.unaccepted = len(self._refused) + self._resent
        if not self.blocked:
            self._closed.set()

    async def run(self) -> None:
        """Polls for ever. Raises `PublisherDead`."""
        while True:
            self.poll()
            if self.in_flight:
                await asyncio.sleep(_BUSY_POLL)
                continue
            self._sending.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_POLL):  # Python 3.11's `wait_for` can swallow a cancellation
                    await self._sending.wait()

    async def close(self, timeout: float) -> int:
        """Flushes for at most `timeout` seconds; returns how many records were never acknowledged."""
        deadline = time.monotonic() + timeout
        while self.in_flight and time.monotonic() < deadline and not self._fatal:
            self._resend()
            await asyncio.sleep(_BUSY_POLL)
            self.poll()
        if self.in_flight:
            log.error("records were not delivered", count=self.in_flight, timeout=timeout)
        return self.in_flight

    def _acknowledged(self, topic: str, value: bytes, key: str, headers: Any = None) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        record = (topic, value, key, 0, headers)

        def report(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                self._queue_resend(error, record, report)
                return
            self.acknowledged += 1
            if topic == self._names.trades:
                self._stats.delivered[key.encode()] += 1
            if not future.done():
                future.set_result(None)

        self.sent += 1
        self._sending.set()
        self._produce(record, report)
        return future

    def _produce(self, record: Record, report: Report) -> None:
        topic, value, key, timestamp, *headers = record
        try:
            if headers and headers[0]:
                self._producer.produce(topic, value, key, on_delivery=report, headers=headers[0])
            else:
                self._producer.produce(topic, value, key, on_delivery=report, timestamp=timestamp)
        except BufferError:
            self._refused.append((record, report))  # not lost: `poll` sends it again
        except KafkaException as error:
            self._queue_resend(error.args[0], record, report)

    def _queue_resend(self, error: KafkaError, record: Record, report: Report) -> None:
        self._stats.failures += 1
        self._stats.message = f"{record[0]}: {error.str()}"
        if error.fatal():
            self._fatal = error.str()
        log.error("Kafka refused a record; it is sent again", topic=record[0], error=error.str(), bytes=len(record[1]))
        self._refused.append((record, report))

    def _resend(self) -> None:
        for _ in range(len(self._refused)):
            record, report = self._refused.popleft()
            self._resent += 1
            self._produce(record, self._count_resent(report))

    def _count_resent(self, report: Report) -> Report:
        def heard(error: KafkaError | None, message: Any) -> None:
            self._resent -= 1
            report(error, message)

        return heard

    def _on_trade(self, arrived: int, error: KafkaError | None, message: Any) -> None:
        if error is not None:  # of a refused message librdkafka knows everything but its timestamp
            record = (message.topic(), message.value(), message.key(), arrived)
            self._queue_resend(error, record, partial(self._on_trade, arrived))
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
        # Records wait for Kafka as long as it takes: the circuit stops the socket, no clock drops a trade.
        "message.timeout.ms": 0,
        "linger.ms": 1,
        "batch.num.messages": 10_000,
        "queue.buffering.max.messages": CAPACITY + CAPACITY // 2,
        "queue.buffering.max.kbytes": 256 << 10,
        "message.max.bytes": MAX_RECORD,
        "reconnect.backoff.max.ms": 2000,
        "partitioner": "consistent",  # CRC32 of the key: `k2.ingest.kafka.resume` finds a symbol's partition by it
        "error_cb": on_error,
        "log_level": 2,  # `error_cb` tells the rest, as JSON
    }
