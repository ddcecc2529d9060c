"""One websocket to one endpoint, and the subscriptions on it."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urldefrag

import structlog

from k2.common import logs
from k2.ingest.connection.liveness import BACKOFF_FIRST, BACKOFF_LIMIT, Liveness
from k2.ingest.connection.silence import SHORTEST
from k2.ingest.connection.subscriptions import ANSWER_WITHIN, Operation, Subscriptions
from k2.ingest.exchanges.base import MALFORMED, Adapter, Closing, Refused, Subscribed, Unsubscribed
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.network.client import FAILURES, HttpClient, MessageType, WebSocket
from k2.ingest.pipeline import Pipeline
from k2.schemas.exchanges.spec import Pair
from k2.schemas.states import SymbolState

log = logs.get("connection")

_OPEN_TIMEOUT: Final = 15.0
_FRAMES_BEFORE_YIELD: Final = 256
_POLL: Final = 1.0  # seconds between two looks for symbols whose next attempt is due
_HEARD: Final = 2.5  # seconds; frames are looked for once a second
_REPEATED_AFTER: Final = 10.0
_NOTICE: Final = 60.0  # seconds before an announced cut at which the connection is replaced


@dataclass(frozen=True, slots=True)
class Tuning:
    """Connection settings. Times in seconds; 0 attempts means no limit, None means the exchange's default."""

    max_attempts: int = 0
    backoff_first: float = BACKOFF_FIRST
    backoff_limit: float = BACKOFF_LIMIT
    stale_after: float | None = None
    max_age: float | None = None
    answer_within: float = ANSWER_WITHIN
    silence: float = SHORTEST


class Connection:
    """One websocket and the subscriptions on it. `lane` numbers the connections that a shard holds at once."""

    def __init__(
        self,
        adapter: Adapter,
        endpoint: str,
        pairs: Mapping[str, Pair],
        tuning: Tuning,
        *,
        lane: int,
        rng: random.Random,
        time_ns: Callable[[], int],
        on_subscribe: Callable[[Iterable[str]], None],
        overlaps: Iterable[str] = (),
    ) -> None:
        """Prepare a connection for `pairs`, by raw symbol. `time_ns` is the clock of received times.

        `on_subscribe` takes the symbols that are subscribed after a time without a subscription. The symbols in
        `overlaps`, by raw symbol, have none: another connection brings them until this one does.
        """
        self.adapter = adapter
        self.endpoint = endpoint
        self.lane = lane
        self.id = f"{rng.getrandbits(48):012x}"
        self.frames = 0
        self.unseen = {pair.symbol for pair in pairs.values()}  # symbols without a record so far; the pipeline's
        self.reader: asyncio.Task[str] | None = None
        self.refused_symbols: list[tuple[str, str]] = []  # and the exchange's words; for the shard to take
        self._pairs = dict(pairs)
        self._unproved = set(pairs)  # raw symbols that are not known to flow
        self._tuning = tuning
        self._time_ns = time_ns
        self._on_subscribe = on_subscribe
        self._overlaps = set(overlaps)
        self._time = asyncio.get_running_loop().time
        self._socket: WebSocket | None = None
        self._liveness: Liveness | None = None
        self._close_reason = ""
        self._close_at = 0.0
        self._changed = asyncio.Event()
        self._disproved: dict[str, float] = {}  # when a repeated REST answer counts, by raw symbol
        self._frames_before = 0
        limits = adapter.limits
        self.subscriptions = Subscriptions(limits, self._encode, tuning.answer_within)
        self.subscriptions.want(pairs)

    @property
    def url(self) -> str:
        """The websocket URL."""
        return urldefrag(self.endpoint).url.rstrip("/") + self.adapter.path

    @property
    def pairs(self) -> Sequence[Pair]:
        """The pairs that are wanted on this connection and not refused."""
        subscriptions = self.subscriptions
        return [self._pairs[name] for name in subscriptions if subscriptions.state(name) is not SymbolState.REFUSED]

    @property
    def idle(self) -> bool:
        """Whether no symbol is left on it that could flow."""
        subscriptions = self.subscriptions
        return all(subscriptions.state(name) is SymbolState.REFUSED for name in subscriptions)

    @property
    def flowed(self) -> bool:
        """Whether any record arrived."""
        return len(self._unproved) < len(self._pairs)

    def alive(self) -> bool:
        """Return whether it is still being read."""
        return self.reader is not None and not self.reader.done()

    def heard(self, now: float) -> bool:
        """Return whether anything came in the last seconds."""
        return self._liveness is not None and now - self._liveness.last_frame_at < _HEARD

    # What the pipeline reports of the frames

    def subscribed(self, event: Subscribed) -> None:
        """Take an acknowledgement."""
        self.subscriptions.acknowledged(event.raw_symbols, event.number)
        self._changed.set()

    def unsubscribed(self, event: Unsubscribed) -> None:
        """Take the end of a subscription."""
        self.subscriptions.unsubscribed(event.raw_symbols, event.number)
        self._changed.set()

    def refused(self, event: Refused) -> None:
        """Take a refusal."""
        refused = self.subscriptions.refused(
            event.reason, event.raw_symbols, event.number, event.kind, self._time(), whole=event.whole
        )
        log.error("subscription refused", connection=self.id, reason=event.reason, symbols=list(refused))
        self.refused_symbols += [(raw_symbol, event.reason) for raw_symbol in refused]
        self._changed.set()

    def disproved(self, raw_symbol: str, reason: str) -> None:
        """Take a REST answer that the exchange has no such symbol.

        It counts where the websocket acknowledges any name, if it is repeated later: it may be a passing fault.
        """
        if not self.adapter.limits.acknowledges_any or self._time() < self._disproved.setdefault(
            raw_symbol, self._time() + _REPEATED_AFTER
        ):
            return
        refused = self.subscriptions.refuse([raw_symbol], reason)
        self.refused_symbols += [(name, reason) for name in refused]

    def unfit(self, raw_symbol: str, reason: str) -> None:
        """Take the adapter's finding that a symbol cannot be recorded: it counts as refused."""
        log.error("symbol cannot be recorded", connection=self.id, symbol=raw_symbol, reason=reason)
        self.refused_symbols.append((raw_symbol, reason))
        self.drop([raw_symbol])

    def closing(self, event: Closing) -> None:
        """Take an announcement that the exchange will close the connection."""
        now = event.sent or self._time_ns() // 1000  # this machine's clock may be wrong
        ahead = (event.due - now) / 1e6 if event.due else 0.0
        if ahead < -_NOTICE or self._close_reason:
            return
        log.info("exchange announced close", connection=self.id, reason=event.reason, seconds=round(ahead, 1))
        self._close_reason, self._close_at = "closing", self._time() + max(0.0, ahead - _NOTICE)

    # What the shard asks for

    def want(self, pairs: Iterable[Pair]) -> None:
        """Subscribe to symbols, on this connection."""
        for pair in pairs:
            if self.subscriptions.state(pair.raw_symbol) is not SymbolState.FLOWING:
                self.unseen.add(pair.symbol)
                self._unproved.add(pair.raw_symbol)
            self._pairs[pair.raw_symbol] = pair
            self.subscriptions.want([pair.raw_symbol])
        self._changed.set()

    def drop(self, raw_symbols: Iterable[str]) -> None:
        """End the subscription of symbols."""
        for raw_symbol in raw_symbols:
            if (pair := self._pairs.get(raw_symbol)) is not None:
                self.unseen.discard(pair.symbol)
                self._unproved.discard(raw_symbol)
                self._overlaps.discard(raw_symbol)
                self.subscriptions.drop([raw_symbol])
        self._changed.set()

    def renew(self, raw_symbol: str) -> None:
        """Subscribe a symbol again, because it is silent or its state is lost."""
        self.unseen.add(self._pairs[raw_symbol].symbol)
        self._unproved.add(raw_symbol)
        self._overlaps.discard(raw_symbol)
        self.subscriptions.renew([raw_symbol])
        self._changed.set()

    def replace(self, reason: str) -> None:
        """Ask for a successor."""
        if not self._close_reason or self._close_at > self._time():
            self._close_reason, self._close_at = reason, 0.0

    def extend(self, seconds: float) -> None:
        """Keep the connection for another `seconds`, because no successor could take over."""
        self._close_reason = ""
        if self._liveness is not None:
            self._liveness.max_age += seconds

    def tick(self, now: float, *, blocked: bool) -> str:
        """Follow the clock; `blocked`: Kafka holds the reader up. Return why the connection should end, or nothing."""
        for raw_symbol in [name for name in self._unproved if self._pairs[name].symbol not in self.unseen]:
            self.subscriptions.flowing(raw_symbol)
            if self.subscriptions.state(raw_symbol) is SymbolState.FLOWING:
                self._unproved.discard(raw_symbol)
            else:
                self.unseen.add(self._pairs[raw_symbol].symbol)  # it came before the symbol was subscribed again
        expired = self.subscriptions.expire(now)
        if expired:
            self._changed.set()
        assert self._liveness is not None
        if blocked or self.frames != self._frames_before:
            self._frames_before = self.frames
            self._liveness.frame(now)
        if self._close_reason and now >= self._close_at:
            return self._close_reason
        unheard = now - self._liveness.last_frame_at >= self._tuning.answer_within
        if self.subscriptions.dead or (expired and unheard and self.subscriptions.answered):
            return "unanswered"
        return self._liveness.close_reason(now) or ""

    async def open(self, http: HttpClient) -> None:
        """Open the websocket. The connection's clock starts when it is open."""
        async with asyncio.timeout(_OPEN_TIMEOUT):
            self._socket = await http.ws_connect(self.url, max_size=self.adapter.limits.frame_bytes)
        limits, tuning = self.adapter.limits, self._tuning
        self._liveness = Liveness(
            tuning.stale_after or limits.stale_after, tuning.max_age or limits.max_age, self._time()
        )

    async def serve(self, pipeline: Pipeline, publisher: Publisher, on_sent: Callable[["Connection"], None]) -> str:
        """Subscribe, send pings and read until the socket closes. Return why it closed."""
        structlog.contextvars.bind_contextvars(connection=self.id)  # for all log events of this task
        helpers = [self._send_requests(on_sent)]
        if self.adapter.limits.ping_text:
            helpers.append(self._ping_loop())
        tasks = [asyncio.ensure_future(part) for part in (self._read(pipeline, publisher), *helpers)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task in done).result() or "error: nothing more was sent"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close the connection. Frames read so far are processed; unread ones show up as a gap."""
        if self.reader is not None:
            self.reader.cancel()
            await asyncio.gather(self.reader, return_exceptions=True)
        if self._socket is not None:
            with contextlib.suppress(*FAILURES):
                await self._socket.close()

    def _encode(self, operation: Operation, raw_symbols: Sequence[str], number: int) -> bytes:
        encode = self.adapter.subscribe if operation is Operation.SUBSCRIBE else self.adapter.unsubscribe
        if operation is Operation.SUBSCRIBE:
            self._on_subscribe([self._pairs[name].symbol for name in raw_symbols if name not in self._overlaps])
        return encode([self._pairs[raw_symbol] for raw_symbol in raw_symbols], number)

    async def _send_requests(self, on_sent: Callable[["Connection"], None]) -> str:
        """Send subscription requests as fast as the exchange permits; call `on_sent` after the first ones."""
        assert self._socket is not None
        reported = False
        while True:
            self._changed.clear()
            now = self._time()
            if message := self.subscriptions.next_request(now):
                await self._socket.send_str(message.decode())
                continue
            if not reported and self.subscriptions.sent:
                reported = True
                on_sent(self)
            wait = self.subscriptions.send_at(now) - now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _POLL) if wait > 0 else _POLL):
                    await self._changed.wait()

    async def _ping_loop(self) -> str:
        assert self._socket is not None
        while True:
            await asyncio.sleep(self.adapter.limits.ping_interval)
            await self._socket.send_str(self.adapter.limits.ping_text)

    async def _read(self, pipeline: Pipeline, publisher: Publisher) -> str:
        socket = self._socket
        assert socket is not None
        receive, handle, text, time_ns = socket.receive, pipeline.handle, MessageType.TEXT, self._time_ns
        while True:
            if publisher.blocked:
                await publisher.wait_unblocked()
            message = await receive()
            self.frames += 1
            if message.type is text:
                handle(message.data, time_ns() // 1000, self)
                if pipeline.barrier is not None:
                    await pipeline.settle()
                if self.frames % _FRAMES_BEFORE_YIELD == 0:
                    await asyncio.sleep(0)  # receive() does not yield while frames are buffered
                continue
            match message.type:
                case MessageType.PING:
                    await socket.pong(message.data)
                case MessageType.PONG:
                    pass
                case MessageType.BINARY:
                    pipeline.dead_letter(
                        message.data, MALFORMED, "binary frame; the exchange documents text frames only"
                    )
                case MessageType.ERROR:
                    return f"error: {message.data!r}"
                case _:
                    words = message.extra if isinstance(message.extra, str) else ""
                    return f"closed: {socket.close_code} {words}".rstrip()
