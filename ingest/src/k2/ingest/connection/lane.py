"""One of the connections that a shard holds at once: connected again when it is lost, replaced before it is cut.

A successor is subscribed, and delivers the symbols that are liquid, before its predecessor is closed.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from k2.common import logs
from k2.ingest.connection.connection import Connection, Tuning
from k2.ingest.connection.liveness import Backoff, Patience
from k2.ingest.connection.refusals import Refusals
from k2.ingest.connection.silence import Silence
from k2.ingest.exchanges.answers import seconds
from k2.ingest.exchanges.base import Adapter
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.network.client import FAILURES, HandshakeRefused, HttpClient
from k2.ingest.network.limits import AddressLimits
from k2.ingest.pipeline import Pipeline
from k2.ingest.telemetry.stats import Stats
from k2.schemas.exchanges.spec import Pair
from k2.schemas.states import SymbolState

log = logs.get("session")

_WATCH_EVERY: Final = 0.25
_TAKEOVER: Final = 20.0  # seconds until a successor has everything that its predecessor has
_OVERLAP: Final = 2.0  # seconds that both connections run during a rotation
_ROTATION_RETRY: Final = 30.0
_ROTATED: Final = frozenset({"aged", "closing", "silent", "unanswered symbols"})
_LIVE: Final = frozenset({SymbolState.ACKNOWLEDGED, SymbolState.FLOWING})
_LONGEST_RETRY_AFTER: Final = 600.0


class AttemptsExhausted(ConnectionError):
    """The exchange could not be reached within `Tuning.max_attempts`, and nothing ever flowed."""


@dataclass(slots=True)
class Shard:
    """What the lanes of one shard share."""

    make_adapter: Callable[[str], Adapter]
    endpoints: Sequence[str]
    http: HttpClient
    pipeline: Pipeline
    publisher: Publisher
    stats: Stats
    tuning: Tuning
    on_connected: Callable[[Connection], None]
    refusals: Refusals
    limits: AddressLimits
    rng: random.Random
    pairs: dict[str, Pair] = field(default_factory=dict)  # wanted, by raw symbol
    silences: dict[str, Silence] = field(default_factory=dict)  # by raw symbol
    time_ns: Callable[[], int] = time.time_ns
    attempts: int = 0

    @property
    def flowed(self) -> bool:
        """Whether any record ever arrived."""
        return any(self.stats.received.values())

    def take_refusals(self, connection: Connection, now: float) -> None:
        """Remember what the exchange refused on a connection."""
        for raw_symbol, reason in connection.refused_symbols:
            self.refusals.refuse(raw_symbol, reason, now)
        connection.refused_symbols.clear()


class Lane:
    """Keep some of a shard's symbols connected until cancelled."""

    def __init__(self, number: int, shard: Shard) -> None:
        self.number = number
        self.raw_symbols: set[str] = set()
        self.full = False  # the exchange took no more symbols on this connection
        self.connection: Connection | None = None
        self.successor: Connection | None = None  # which is about to replace it
        self.rotating = False  # from choosing the successor's symbols until it has replaced the connection, or failed
        self.reconnect = asyncio.Event()  # there is something to connect for
        self._shard = shard
        self._time = asyncio.get_running_loop().time
        self.patience = Patience()
        self.backoff = Backoff(shard.rng, shard.tuning.backoff_first, shard.tuning.backoff_limit)

    @property
    def connections(self) -> list[Connection]:
        """The open connections: one, or two during a rotation."""
        return [connection for connection in (self.connection, self.successor) if connection is not None]

    async def run(self) -> None:
        """Stay connected while there are symbols. Raises `AttemptsExhausted`."""
        while True:
            connection = await self._connect_with_retry()
            try:
                reason = await self._keep(connection)
            finally:
                await self._close()
            if reason:
                await self._wait_to_retry(reason)

    async def _keep(self, connection: Connection) -> str:
        """Keep a connection, or its successors, until one is lost. Return why; empty if it was given up."""
        while True:
            reason = await self._watch(connection)
            if reason == "idle":
                return ""
            if reason not in _ROTATED or not connection.alive():
                self._on_lost(connection, reason)
                return f"{connection.endpoint}: {reason}"
            self.rotating = True
            try:
                successor = await self._successor(connection)
                if successor is not None:
                    self.connection = successor  # before any wait, in which this task may be cancelled
            finally:
                self.rotating = False
            if successor is None:
                connection.extend(_ROTATION_RETRY)
                continue
            if not connection.alive():
                self._on_lost(connection, _outcome(connection))
            predecessor, connection = connection, successor
            await predecessor.close()

    async def _watch(self, connection: Connection) -> str:
        """Wait until the connection should be closed. Return the reason; `idle` if no symbol is left on it."""
        while True:
            assert connection.reader is not None
            await asyncio.wait([connection.reader], timeout=_WATCH_EVERY)
            if reason := self._tick(connection):
                return reason
            if connection.idle:
                return "idle"

    def _tick(self, connection: Connection) -> str:
        shard, now = self._shard, self._time()
        reason = connection.tick(now, blocked=shard.publisher.blocked)
        if connection.flowed:  # after the tick, which sees what came since the last one
            self.backoff.reset()
        shard.take_refusals(connection, now)
        return reason if connection.alive() else _outcome(connection)

    def _on_lost(self, connection: Connection, reason: str) -> None:
        shard = self._shard
        shard.stats.reconnects += 1
        shard.stats.errors[f"connection_{reason.partition(':')[0].replace(' ', '_')}"] += 1
        shard.pipeline.interrupt([pair.symbol for pair in connection.pairs])
        for pair in connection.pairs:
            shard.silences[pair.raw_symbol].lost()
        log.warning("connection lost", connection=connection.id, endpoint=connection.endpoint, reason=reason)

    async def _connect_with_retry(self) -> Connection:
        while True:
            pairs = await self._until_subscribable()
            endpoints = self._shard.endpoints
            endpoint = endpoints[self._shard.attempts % len(endpoints)]
            try:
                self.connection = await self._connect(pairs)
            except FAILURES as error:
                self._shard.stats.errors["connect"] += 1
                await self._wait_to_retry(f"{endpoint}: {str(error) or type(error).__name__}", error)
            else:
                return self.connection

    async def _until_subscribable(self) -> dict[str, Pair]:
        """Wait until some symbol is worth a connection. Return those that are."""
        while not (pairs := self._subscribable()):
            self.reconnect.clear()
            await self.reconnect.wait()
        return pairs

    def _subscribable(self) -> dict[str, Pair]:
        pairs = self._shard.pairs
        mine = [raw_symbol for raw_symbol in pairs if raw_symbol in self.raw_symbols]
        return {raw_symbol: pairs[raw_symbol] for raw_symbol in self._shard.refusals.subscribable(mine, self._time())}

    async def _wait_to_retry(self, reason: str, error: BaseException | None = None) -> None:
        """Wait before the next attempt. Raises `AttemptsExhausted` after the last one."""
        shard = self._shard
        shard.stats.message = reason
        most = shard.tuning.max_attempts
        if most and self.backoff.attempts + 1 >= most and not shard.flowed:
            raise AttemptsExhausted(f"no data after {most} attempts; the last failed with {reason}")
        banned = isinstance(error, HandshakeRefused) and shard.limits.handshake_refused(
            error.status, error.retry_after, self._time()
        )
        delay = max(self.backoff.next_delay(at_once=not banned), 0.0 if banned else _retry_after(error))
        log.warning("reconnecting", reason=reason, seconds=round(delay, 1))
        await asyncio.sleep(delay)

    async def _connect(self, pairs: Mapping[str, Pair], overlaps: Iterable[str] = ()) -> Connection:
        """Connect and subscribe; an open connection brings the symbols in `overlaps` until this one does."""
        shard = self._shard
        endpoint = shard.endpoints[shard.attempts % len(shard.endpoints)]
        shard.attempts += 1
        adapter = shard.make_adapter(endpoint)
        adapter.set_pairs(list(shard.pairs.values()))
        wait = shard.limits.connect(self._time())
        while wait:
            log.info("waiting for the exchange's limit of connections", seconds=round(wait, 1))
            await asyncio.sleep(wait)
            wait = shard.limits.connects_banned(self._time())
        connection = Connection(
            adapter, endpoint, pairs, shard.tuning, lane=self.number, rng=shard.rng, time_ns=shard.time_ns,
            on_subscribe=shard.pipeline.interrupt, overlaps=overlaps,
        )  # fmt: skip
        await connection.open(shard.http)
        subscribable = self._subscribable()  # symbols may have been added or removed since it began to connect
        adapter.set_pairs(list(shard.pairs.values()))
        connection.drop([raw_symbol for raw_symbol in pairs if raw_symbol not in subscribable])
        connection.want([pair for raw_symbol, pair in subscribable.items() if raw_symbol not in pairs])
        log.info("connected", connection=connection.id, endpoint=endpoint, symbols=len(pairs))
        shard.stats.connections += 1
        shard.stats.endpoint = endpoint
        connection.reader = asyncio.create_task(self._serve(connection), name=f"reader-{connection.id}")
        return connection

    async def _serve(self, connection: Connection) -> str:
        shard = self._shard
        try:
            return await connection.serve(shard.pipeline, shard.publisher, shard.on_connected)
        finally:
            shard.stats.connections -= 1

    async def _successor(self, old: Connection) -> Connection | None:
        """Connect and subscribe a successor while the old connection still reads. Return None if that fails."""
        if self._shard.limits.connects_banned(self._time()):
            return None
        try:
            new = await self._connect(self._subscribable(), self._brought_by(old))
        except FAILURES as error:
            log.warning("successor not connected, keeping the old connection", error=repr(error))
            return None
        self.successor = new
        try:
            if await self._until_taken_over(old, new):
                return new
        except asyncio.CancelledError:
            await new.close()
            raise
        finally:
            self.successor = None
        log.warning("successor does not deliver, keeping the old connection", connection=new.id)
        await new.close()
        return None

    def _brought_by(self, connection: Connection) -> list[str]:
        """Return the symbols that a connection still brings, as far as their own rates show."""
        now, silences = self._time(), self._shard.silences
        if not connection.heard(now):
            return []
        return [name for name in connection.subscriptions if name in silences and silences[name].regular(now)]

    async def _until_taken_over(self, old: Connection, new: Connection) -> bool:
        """Wait until a successor has taken over, or its predecessor is gone. Return False if neither comes in time."""
        assert new.reader is not None
        deadline = self._time() + _TAKEOVER
        while self._time() < deadline and new.alive():
            await asyncio.wait([new.reader], timeout=_WATCH_EVERY)
            self._tick(new)
            if not old.alive():
                break  # nothing is left to wait for
            self._tick(old)
            if self._took_over(old, new):
                await asyncio.wait([new.reader], timeout=_OVERLAP)  # a loss is noticed at once
                if new.alive():
                    log.info("rotated", connection=new.id, endpoint=new.endpoint)
                return new.alive() or not old.alive()
        return new.alive() and not old.alive()

    def _took_over(self, old: Connection, new: Connection) -> bool:
        """Return whether a successor has what its predecessor has: records of what is liquid, the word of others."""
        if not new.alive():
            return False
        for name in new.subscriptions:
            state = new.subscriptions.state(name)
            if state in {SymbolState.PENDING, SymbolState.SENT}:
                return False
            if state is SymbolState.UNANSWERED and old.subscriptions.state(name) in _LIVE:
                return False
            silence = self._shard.silences.get(name)
            liquid = silence is not None and silence.liquid and not silence.suspicious
            flowed = old.subscriptions.state(name) is SymbolState.FLOWING
            if liquid and flowed and state is SymbolState.ACKNOWLEDGED:
                return False
        return True

    async def _close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.close()


def _outcome(connection: Connection) -> str:
    assert connection.reader is not None
    try:
        return connection.reader.result()
    except FAILURES as error:
        return f"error: {error!r}"


def _retry_after(error: BaseException | None) -> float:
    wait = seconds(error.retry_after) if isinstance(error, HandshakeRefused) else None
    return min(wait or 0.0, _LONGEST_RETRY_AFTER)
