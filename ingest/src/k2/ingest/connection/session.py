"""The websocket session of one shard, the only module that opens a websocket.

The session connects, subscribes and reads, with backoff between attempts and round-robin over the endpoints. When a
connection reaches its maximum age, its successor is subscribed before it is closed.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urldefrag

import aiohttp
import structlog
from aiohttp import WSMsgType

from k2.common import logs
from k2.ingest.connection.liveness import BACKOFF_FIRST, BACKOFF_LIMIT, Backoff, Liveness
from k2.ingest.exchanges.base import MALFORMED, Adapter
from k2.ingest.kafka.publisher import MAX_FRAME, Publisher
from k2.ingest.pipeline import Pipeline
from k2.ingest.sequencing.tracker import Tracker
from k2.ingest.telemetry.stats import Stats

log = logs.get("session")

_OPEN_TIMEOUT: Final = 15.0
_CLOSE_TIMEOUT: Final = 1.0
_SUBSCRIBE_TIMEOUT: Final = 20.0
_WATCH_EVERY: Final = 0.25
_OVERLAP: Final = 2.0  # seconds that both connections run during a rotation
_ROTATION_RETRY: Final = 30.0
_ROTATION_REASONS: Final = frozenset({"aged", "closing"})
_FRAMES_BEFORE_YIELD: Final = 256
_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)


class AttemptsExhausted(ConnectionError):
    """The exchange could not be reached within `Tuning.max_attempts`."""


class AllSymbolsRefused(ValueError):
    """The exchange refused every symbol."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Connection settings. Times in seconds; 0 attempts means no limit, None means the exchange's default."""

    max_attempts: int = 0
    backoff_first: float = BACKOFF_FIRST
    backoff_limit: float = BACKOFF_LIMIT
    stale_after: float | None = None
    max_age: float | None = None


class Connection:
    """One websocket to one endpoint and its state."""

    def __init__(self, adapter: Adapter, endpoint: str, raw_symbols: Sequence[str], tuning: Tuning) -> None:
        self.adapter = adapter
        self.endpoint = endpoint
        self.id = f"{random.getrandbits(48):012x}"
        self.frames = 0
        self.ready = asyncio.Event()
        self.close_reason = ""
        self.socket: aiohttp.ClientWebSocketResponse[bool] | None = None
        limits = adapter.limits
        self.liveness = Liveness(
            stale_after=tuning.stale_after or limits.stale_after,
            max_age=tuning.max_age or limits.max_age,
            opened_at=time.monotonic(),
        )
        self._pending = set(raw_symbols)
        self._refused: dict[str, str] = {}
        self._symbol_count = len(self._pending)

    @property
    def url(self) -> str:
        """The websocket URL."""
        return urldefrag(self.endpoint).url.rstrip("/") + self.adapter.path

    @property
    def refusals(self) -> dict[str, str]:
        """The refused symbols and the exchange's reason."""
        return self._refused

    def subscribed(self, raw_symbols: Sequence[str]) -> None:
        """Record that the exchange accepted these symbols."""
        self._pending.difference_update(raw_symbols)
        if not self._pending:
            self.ready.set()

    def refused(self, reason: str, raw_symbols: Sequence[str]) -> None:
        """Record that the exchange refused these symbols, or another request if none is named."""
        log.error("subscription refused", connection=self.id, reason=reason, symbols=list(raw_symbols))
        for raw_symbol in raw_symbols:
            self._refused[raw_symbol] = reason
        if len(self._refused) == self._symbol_count:
            self.close_reason = "refused"
        self.subscribed(raw_symbols)

    def closing(self, reason: str) -> None:
        """Record that the exchange announced to close the connection."""
        log.info("exchange announced close", connection=self.id, reason=reason)
        self.close_reason = "closing"

    def extend(self, seconds: float) -> None:
        """Keep the connection for another `seconds`, because no successor could be connected."""
        self.close_reason = ""
        self.liveness.max_age += seconds


class Session:
    """Keep one shard connected until cancelled."""

    def __init__(
        self,
        make_adapter: Callable[[str], Adapter],
        endpoints: Sequence[str],
        raw_symbols: Sequence[str],
        http: aiohttp.ClientSession,
        pipeline: Pipeline,
        tracker: Tracker,
        publisher: Publisher,
        stats: Stats,
        tuning: Tuning,
        on_connected: Callable[[Connection], None],
    ) -> None:
        self._make_adapter = make_adapter
        self._endpoints = endpoints
        self._raw_symbols = raw_symbols
        self._http = http
        self._pipeline = pipeline
        self._tracker = tracker
        self._publisher = publisher
        self._stats = stats
        self._tuning = tuning
        self._on_connected = on_connected
        self._backoff = Backoff(random.Random(), tuning.backoff_first, tuning.backoff_limit)
        self._attempts = 0

    async def run(self) -> None:
        """Stay connected until cancelled. Raises `AttemptsExhausted` or `AllSymbolsRefused`."""
        connection, reader = await self._connect_with_retry()
        try:
            while True:
                reason = await self._watch(connection, reader)
                if reason in _ROTATION_REASONS and not reader.done():
                    if successor := await self._connect_successor():
                        await self._close(connection, reader)
                        connection, reader = successor
                    else:
                        connection.extend(_ROTATION_RETRY)
                    continue
                await self._close(connection, reader)
                self._on_connection_lost(connection, reason)
                await self._wait_to_retry(f"{connection.endpoint}: {reason}")
                connection, reader = await self._connect_with_retry()
        finally:
            await self._close(connection, reader)

    def _on_connection_lost(self, connection: Connection, reason: str) -> None:
        self._stats.reconnects += 1
        self._stats.errors[f"connection_{reason.partition(':')[0]}"] += 1
        self._tracker.on_disconnect()
        log.warning("connection lost", connection=connection.id, endpoint=connection.endpoint, reason=reason)
        if len(connection.refusals) == len(self._raw_symbols):
            raw_symbol, reason_text = next(iter(connection.refusals.items()))
            raise AllSymbolsRefused(f"{connection.endpoint} refused every symbol; {raw_symbol}: {reason_text}")

    async def _connect_with_retry(self) -> tuple[Connection, asyncio.Task[str]]:
        while True:
            try:
                return await self._connect()
            except _FAILURES as error:
                endpoint = self._endpoints[(self._attempts - 1) % len(self._endpoints)]
                self._stats.errors["connect"] += 1
                await self._wait_to_retry(f"{endpoint}: {str(error) or type(error).__name__}")

    async def _wait_to_retry(self, reason: str) -> None:
        """Wait before the next attempt. Raises `AttemptsExhausted` after the last one."""
        self._stats.message = reason
        if self._tuning.max_attempts and self._backoff.attempts + 1 >= self._tuning.max_attempts:
            raise AttemptsExhausted(
                f"no data after {self._tuning.max_attempts} attempts; the last failed with {reason}"
            )
        delay = self._backoff.next_delay()
        log.warning("reconnecting", reason=reason, seconds=round(delay, 1))
        await asyncio.sleep(delay)

    async def _connect(self) -> tuple[Connection, asyncio.Task[str]]:
        endpoint = self._endpoints[self._attempts % len(self._endpoints)]
        self._attempts += 1
        connection = Connection(self._make_adapter(endpoint), endpoint, self._raw_symbols, self._tuning)
        async with asyncio.timeout(_OPEN_TIMEOUT):
            connection.socket = await self._http.ws_connect(
                connection.url,
                autoping=False,
                max_msg_size=MAX_FRAME,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT),
            )
        log.info("connected", connection=connection.id, endpoint=endpoint, symbols=len(self._raw_symbols))
        self._stats.connections += 1
        self._stats.endpoint = endpoint
        reader = asyncio.create_task(self._serve(connection), name=f"reader-{connection.id}")
        return connection, reader

    async def _connect_successor(self) -> tuple[Connection, asyncio.Task[str]] | None:
        """Connect and subscribe a successor while the old connection still reads. Return None if that fails."""
        try:
            connection, reader = await self._connect()
        except _FAILURES as error:
            log.warning("successor not connected, keeping the old connection", error=repr(error))
            return None
        subscribed = asyncio.create_task(connection.ready.wait())
        await asyncio.wait([reader, subscribed], timeout=_SUBSCRIBE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        subscribed.cancel()
        if reader.done() or not connection.ready.is_set():
            log.warning("successor not subscribed, keeping the old connection", connection=connection.id)
            await self._close(connection, reader)
            return None
        await asyncio.sleep(_OVERLAP)
        log.info("rotated", connection=connection.id, endpoint=connection.endpoint)
        return connection, reader

    async def _serve(self, connection: Connection) -> str:
        """Subscribe, send pings and read until the socket closes. Return why it closed."""
        structlog.contextvars.bind_contextvars(connection=connection.id)  # for all log events of this task
        helpers: list[Coroutine[Any, Any, None]] = [self._subscribe(connection)]
        if connection.adapter.limits.ping_text:
            helpers.append(self._ping_loop(connection))
        tasks = [asyncio.create_task(helper) for helper in helpers]
        try:
            return await self._read(connection)
        finally:
            self._stats.connections -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _subscribe(self, connection: Connection) -> None:
        assert connection.socket is not None
        for message in connection.adapter.subscribe_messages():
            await connection.socket.send_str(message.decode())
            await asyncio.sleep(connection.adapter.limits.subscribe_interval)
        self._on_connected(connection)

    @staticmethod
    async def _ping_loop(connection: Connection) -> None:
        assert connection.socket is not None
        while True:
            await asyncio.sleep(connection.adapter.limits.ping_interval)
            await connection.socket.send_str(connection.adapter.limits.ping_text)

    async def _read(self, connection: Connection) -> str:
        socket, pipeline, publisher = connection.socket, self._pipeline, self._publisher
        assert socket is not None
        receive, handle, text = socket.receive, pipeline.handle, WSMsgType.TEXT
        while True:
            if publisher.blocked:
                await publisher.wait_unblocked()
                connection.liveness.restart(time.monotonic())
            message = await receive()
            if message.type is text:
                connection.frames += 1
                handle(message.data, time.time_ns() // 1000, connection)
                if pipeline.needs_settle:
                    await pipeline.settle()
                if connection.frames % _FRAMES_BEFORE_YIELD == 0:
                    await asyncio.sleep(0)  # receive() does not yield while frames are buffered
                continue
            connection.frames += 1
            match message.type:
                case WSMsgType.PING:
                    await socket.pong(message.data)
                case WSMsgType.PONG:
                    pass
                case WSMsgType.BINARY:
                    pipeline.dead_letter(
                        message.data, MALFORMED, "binary frame; the exchange documents text frames only"
                    )
                case WSMsgType.ERROR:
                    return f"error: {message.data!r}"
                case _:
                    return f"closed: {socket.close_code}"

    async def _watch(self, connection: Connection, reader: asyncio.Task[str]) -> str:
        """Wait until the connection should be closed. Return the reason."""
        frames, counts = connection.frames, dict(self._stats.received)
        second = time.monotonic()
        while True:
            await asyncio.wait([reader], timeout=_WATCH_EVERY)
            if reader.done():
                return _outcome(reader)
            now = time.monotonic()
            if connection.frames != frames:
                self._stats.frames += connection.frames - frames
                frames = connection.frames
                connection.liveness.frame(now)
            self._stats.refused.update(connection.refusals)
            if now - second >= 1.0:
                counts, second = self._note_records(connection, counts, now), now
            if self._publisher.blocked:
                connection.liveness.restart(now)
            if connection.close_reason:
                return connection.close_reason
            if reason := connection.liveness.close_reason(now):
                return reason

    def _note_records(self, connection: Connection, before: dict[str, int], now: float) -> dict[str, int]:
        counts = dict(self._stats.received)
        for symbol, count in counts.items():
            if count != before.get(symbol):
                connection.liveness.record(symbol, now)
                self._backoff.reset()
        return counts

    @staticmethod
    async def _close(connection: Connection, reader: asyncio.Task[str]) -> None:
        """Close a connection. Frames read so far are processed; unread ones show up as a gap."""
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        if connection.socket is not None:
            with contextlib.suppress(*_FAILURES):
                await connection.socket.close()


def _outcome(reader: asyncio.Task[str]) -> str:
    try:
        return reader.result()
    except _FAILURES as error:
        return f"error: {error!r}"
