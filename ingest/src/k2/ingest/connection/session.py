"""The websocket session of one shard: as many connections as its symbols need, and what becomes of each symbol.

A symbol is subscribed until it flows, is refused, or is no longer wanted. One that is silent for longer than its own
rate explains is asked for over REST; if the exchange has newer records, it is subscribed again, then its connection is
replaced.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urldefrag

from k2.common import logs
from k2.ingest.backfill.rest import RestUnreachable
from k2.ingest.connection.connection import Connection, Tuning
from k2.ingest.connection.lane import AttemptsExhausted, Lane, Shard
from k2.ingest.connection.listing import UNLISTED, Listing
from k2.ingest.connection.refusals import Refusals
from k2.ingest.connection.silence import Remedy, Silence
from k2.ingest.exchanges.base import (
    NO_ID,
    Adapter,
    Closing,
    Event,
    Limits,
    MalformedFrame,
    Newest,
    Notices,
    RestRefused,
)
from k2.ingest.kafka.publisher import MAX_FRAME, Publisher
from k2.ingest.network.client import FAILURES, HttpClient, MessageType, WebSocket
from k2.ingest.network.limits import AddressLimits
from k2.ingest.pipeline import ConnectionHandle, Pipeline
from k2.ingest.telemetry.stats import Stats
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source
from k2.schemas.states import SymbolState

__all__ = ["AllSymbolsRefused", "AttemptsExhausted", "Session", "Tuning"]

log = logs.get("session")

_OVERSEE_EVERY: Final = 1.0
_NOTICES_RETRY: Final = 60.0
_SNAPSHOT: Final = Source.SNAPSHOT.value
_LIVE: Final = frozenset({SymbolState.ACKNOWLEDGED, SymbolState.FLOWING})


class AllSymbolsRefused(ValueError):
    """The exchange refused every symbol, and nothing ever flowed."""


class NewestSource(Protocol):
    """Asks the exchange's REST API for the newest record of a symbol."""

    def __call__(self, pair: Pair, link: ConnectionHandle) -> Awaitable[tuple[Newest, Sequence[Event], bytes] | None]:
        """Return the newest record, the events of the response, and its body; None where no request gives it.

        Raises `RestRefused` and others.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What a session takes from elsewhere; the defaults know nothing, and use this machine's clock and randomness."""

    newest: NewestSource | None = None
    listing: Listing = UNLISTED
    rng: random.Random | None = None
    time_ns: Callable[[], int] = time.time_ns
    limits: AddressLimits | None = None


class Session:
    """Keep one shard connected until cancelled."""

    def __init__(
        self,
        make_adapter: Callable[[str], Adapter],
        endpoints: Sequence[str],
        pairs: Sequence[Pair],
        http: HttpClient,
        pipeline: Pipeline,
        publisher: Publisher,
        stats: Stats,
        tuning: Tuning,
        on_connected: Callable[[Connection], None],
        sources: Sources = Sources(),
    ) -> None:
        self._protocol = make_adapter(endpoints[0])
        self._sources = sources
        self._shard = Shard(
            make_adapter,
            endpoints,
            http,
            pipeline,
            publisher,
            stats,
            tuning,
            on_connected,
            Refusals(sources.listing),
            sources.limits or AddressLimits(self._protocol.rest_budget, self._protocol.limits),
            sources.rng or random.Random(),
            time_ns=sources.time_ns,
        )
        self._pairs = list(pairs)
        self._lanes: list[Lane] = []
        self._tasks: dict[asyncio.Task[None], Lane | None] = {}
        self._counts: dict[str, int] = {}
        self._baselines: dict[str, Newest] = {}  # what REST showed of symbols of which nothing came so far
        self._added: set[str] = set()  # raw symbols of which nothing came since they were added
        self._question: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Stay connected until cancelled. Raises `AttemptsExhausted` or `AllSymbolsRefused`."""
        try:
            self._apply()
            self._tasks[asyncio.create_task(self._oversee(), name="oversee")] = None
            if self._protocol.notices.path:
                self._tasks[asyncio.create_task(self._watch_notices(), name="notices")] = None
            while True:
                done, _ = await asyncio.wait(self._tasks, timeout=_OVERSEE_EVERY, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del self._tasks[task]
                    task.result()
        finally:
            if self._question is not None:
                self._question.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def set_symbols(self, pairs: Sequence[Pair]) -> None:
        """Change the wanted symbols: new ones are subscribed on the open connections, the others unsubscribed."""
        self._pairs = list(pairs)
        if self._tasks:
            self._apply()

    def _apply(self) -> None:
        """Distribute the wanted symbols over the connections, moving none that has its place."""
        shard, pairs = self._shard, {pair.raw_symbol: pair for pair in self._pairs}
        shard.pairs = pairs
        shard.stats.symbols = tuple(pair.symbol for pair in self._pairs)
        shard.pipeline.set_pairs(self._pairs)
        for gone in [name for name in shard.silences if name not in pairs]:
            del shard.silences[gone]
            self._baselines.pop(gone, None)
            shard.refusals.forget(gone)
        for raw_symbol in [name for name in pairs if name not in shard.silences]:
            shard.silences[raw_symbol] = Silence(shard.tuning.silence)
            self._added.add(raw_symbol)
        for lane in self._lanes:
            gone_symbols = lane.raw_symbols - pairs.keys()
            lane.raw_symbols -= gone_symbols
            lane.full = lane.full and not gone_symbols
            for connection in lane.connections:
                connection.adapter.set_pairs(self._pairs)
                connection.drop(gone_symbols)
        placed = {raw_symbol for lane in self._lanes for raw_symbol in lane.raw_symbols}
        self._place([raw_symbol for raw_symbol in pairs if raw_symbol not in placed])

    def _place(self, raw_symbols: Iterable[str]) -> None:
        """Give symbols to the first connections that have room, adding connections."""
        limits = self._protocol.limits
        for raw_symbol in raw_symbols:
            room = (each for each in self._lanes if not each.full and fits(limits, each.raw_symbols, raw_symbol))
            lane = next(room, None)
            if lane is None:
                lane = Lane(len(self._lanes), self._shard)
                self._lanes.append(lane)
                self._tasks[asyncio.create_task(lane.run(), name=f"lane-{lane.number}")] = lane
            lane.raw_symbols.add(raw_symbol)
            worth = self._shard.refusals.subscribable([raw_symbol], asyncio.get_running_loop().time())
            for connection in lane.connections:
                connection.want([self._shard.pairs[name] for name in worth])
            lane.reconnect.set()

    async def _oversee(self) -> None:
        """Judge each symbol once a second. Raises `AllSymbolsRefused`."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            self._note_records(now)
            for lane in list(self._lanes):
                self._follow(lane, now)
            self._report()
            self._ask_about_silence(now)
            await asyncio.sleep(_OVERSEE_EVERY)

    def _note_records(self, now: float) -> None:
        shard, counts = self._shard, dict(self._shard.stats.received)
        blocked = shard.publisher.blocked
        for raw_symbol, pair in shard.pairs.items():
            count = counts.get(pair.symbol, 0)
            if count != self._counts.get(pair.symbol, 0) and shard.stats.newest[pair.symbol].source != _SNAPSHOT:
                shard.silences[raw_symbol].record(now)  # a snapshot only proves that it was asked for
                self._baselines.pop(raw_symbol, None)
                self._added.discard(raw_symbol)
            elif blocked:
                shard.silences[raw_symbol].restart(now)
        self._counts = counts

    def _follow(self, lane: Lane, now: float) -> None:
        """Take what a connection learned of its symbols, and try again what is due."""
        shard, connection = self._shard, lane.connection
        if connection is None:
            for raw_symbol in lane.raw_symbols:  # also of one whose last record was noted after the loss
                shard.silences[raw_symbol].lost()
            lane.reconnect.set()
            return
        shard.take_refusals(connection, now)
        subscriptions = connection.subscriptions
        for raw_symbol in lane.raw_symbols:
            state = subscriptions.state(raw_symbol)
            if state in _LIVE:
                shard.silences[raw_symbol].subscribed(now)
            # An acknowledgement proves nothing everywhere. Nor do records of a connection that is about to be replaced:
            # its successor may lack the symbol, and would not get it without the refusal.
            if state is SymbolState.FLOWING and not lane.rotating:
                shard.refusals.forget(raw_symbol)
        if due := shard.refusals.due(lane.raw_symbols, now):
            worth = shard.refusals.subscribable(due, now)
            connection.want([shard.pairs[raw_symbol] for raw_symbol in worth])
        if subscriptions.crowded:
            subscriptions.crowded, lane.full = False, True
            states = {name: subscriptions.state(name) for name in lane.raw_symbols if subscriptions.reason(name)}
            moved = [name for name, state in states.items() if state is SymbolState.UNANSWERED]
            lane.raw_symbols -= set(moved)
            connection.drop(moved)
            self._place(moved)
        if lane.patience.exhausted(subscriptions.stubborn, now):
            connection.replace("unanswered symbols")

    def _report(self) -> None:
        """Publish the state of each symbol. Raises `AllSymbolsRefused` to end a process of the command line."""
        shard = self._shard
        states = {}
        for lane in self._lanes:
            for raw_symbol in lane.raw_symbols:
                states[shard.pairs[raw_symbol].symbol] = self._state(raw_symbol, lane.connection)
        shard.stats.symbol_states = states
        shard.stats.lanes = max(1, len([lane for lane in self._lanes if lane.raw_symbols]))
        shard.stats.refused = {
            raw_symbol: states[pair.symbol][1]
            for raw_symbol, pair in shard.pairs.items()
            if states[pair.symbol][0] is SymbolState.REFUSED
        }
        if shard.pairs and len(shard.stats.refused) == len(shard.pairs):
            raw_symbol, reason = next(iter(shard.stats.refused.items()))
            message = f"{shard.stats.endpoint or shard.endpoints[0]} refused every symbol; {raw_symbol}: {reason}"
            shard.stats.message = message
            if shard.tuning.max_attempts and not shard.flowed:
                raise AllSymbolsRefused(message)

    def _state(self, raw_symbol: str, connection: Connection | None) -> tuple[SymbolState, str]:
        shard = self._shard
        state = connection.subscriptions.state(raw_symbol) if connection else SymbolState.PENDING
        if state not in _LIVE and (reason := shard.refusals.reason(raw_symbol)):
            return SymbolState.REFUSED, reason
        if connection is None:
            return state, ""
        silence = shard.silences[raw_symbol]
        if silence.silent:
            return SymbolState.SILENT, "the exchange's REST API has newer records"
        if state in _LIVE and silence.suspicious:
            if shard.refusals.listing.trading(raw_symbol) is False:  # delisted since it was subscribed
                return SymbolState.REFUSED, shard.refusals.listing.reason(raw_symbol)
            return SymbolState.QUIET, ""
        return state, connection.subscriptions.reason(raw_symbol)

    def _ask_about_silence(self, now: float) -> None:
        """Ask about one symbol whose silence is suspicious; the others wait for their turn."""
        if self._question is not None and not self._question.done():
            return
        for lane in self._lanes:
            connection = lane.connection
            if connection is None:
                continue
            for raw_symbol in sorted(lane.raw_symbols):
                live = connection.subscriptions.state(raw_symbol) in _LIVE
                if live and self._shard.silences[raw_symbol].ask(now):
                    self._question = asyncio.create_task(self._ask(raw_symbol, lane, connection))
                    return

    async def _ask(self, raw_symbol: str, lane: Lane, connection: Connection) -> None:
        """Ask the exchange's REST API whether a symbol is quiet, and get it back if it is not."""
        shard, pair = self._shard, self._shard.pairs.get(raw_symbol)
        if pair is None:
            return
        silence, count = shard.silences[raw_symbol], shard.stats.received[pair.symbol]
        answer = await self._newest(pair, connection)
        if raw_symbol not in shard.pairs:  # it may be removed at any time
            return
        newer = self._compare(raw_symbol, answer[0]) if answer else None
        if newer is False:
            silence.quiet()
            return
        if newer is None and not silence.liquid:  # of a liquid symbol, its own rate is proof enough
            return
        if newer:
            await asyncio.sleep(connection.adapter.limits.snapshot_delay)  # the stream may lag behind the REST API
        if raw_symbol not in shard.pairs or shard.stats.received[pair.symbol] != count:
            return
        now = asyncio.get_running_loop().time()
        others = [shard.silences[name] for name in lane.raw_symbols if name != raw_symbol]
        none_flows = any(each.overdue(now) for each in others) and not any(each.began_after(silence) for each in others)
        remedy = silence.is_silent(now)
        shard.stats.silences[pair.symbol] += 1
        log.warning("symbol is silent", symbol=raw_symbol, connection=connection.id, seconds=round(silence.length(now)))
        shard.pipeline.interrupt([pair.symbol])
        if lane.connection is connection:
            if remedy is Remedy.REPLACE or none_flows:
                connection.replace("silent")
            else:
                connection.renew(raw_symbol)
        if answer and newer:
            _, events, body = answer
            shard.pipeline.handle_snapshot(events, body, shard.time_ns() // 1000, connection)
            await shard.pipeline.settle()

    async def _newest(self, pair: Pair, connection: Connection) -> tuple[Newest, Sequence[Event], bytes] | None:
        if self._sources.newest is None:
            return None
        try:
            return await self._sources.newest(pair, connection)
        except RestRefused as error:
            if error.unknown_symbol:
                connection.disproved(pair.raw_symbol, str(error))
            log.warning("newest record refused", symbol=pair.raw_symbol, error=str(error))
        except (RestUnreachable, MalformedFrame) as error:
            log.warning("newest record not known", symbol=pair.raw_symbol, error=str(error))
        return None

    def _compare(self, raw_symbol: str, newest: Newest) -> bool | None:
        """Return whether the REST API shows a record that the websocket did not bring; None if it lags behind."""
        record = self._shard.stats.newest.get(self._shard.pairs[raw_symbol].symbol)
        if record is None or raw_symbol in self._added:  # what was traded while it was not wanted proves nothing
            return newest.after(self._baselines.setdefault(raw_symbol, newest))
        number = int(record.record_id) if record.record_id.isdigit() and newest.number != NO_ID else NO_ID
        received = Newest(number, record.timestamp)
        return None if received.after(newest) else newest.after(received)

    async def _watch_notices(self) -> None:
        """Listen where the exchange announces maintenance. That this cannot be reached is no fault of the data."""
        shard, notices, limits = self._shard, self._protocol.notices, self._protocol.limits
        while True:
            url = urldefrag(shard.endpoints[shard.attempts % len(shard.endpoints)]).url.rstrip("/") + notices.path
            try:
                async with await shard.http.ws_connect(url, autoping=True, max_size=MAX_FRAME) as socket:
                    await self._hear_notices(socket, notices, limits)
            except FAILURES as error:
                log.debug("announcements not heard", url=url, error=repr(error))
            await asyncio.sleep(_NOTICES_RETRY)

    async def _hear_notices(self, socket: WebSocket, notices: Notices, limits: Limits) -> None:
        for text in notices.messages:
            await socket.send_str(text)
        heard: set[tuple[str, int]] = set()
        while True:
            try:
                message = await socket.receive(limits.ping_interval)
            except TimeoutError:
                if limits.ping_text:
                    await socket.send_str(limits.ping_text)
                continue
            if message.type is not MessageType.TEXT:
                return
            with suppress(MalformedFrame):
                events = self._protocol.parse(message.data, self._shard.time_ns() // 1000)
                announced = [
                    event for event in events
                    if isinstance(event, Closing) and (event.reason, event.due) not in heard
                ]  # fmt: skip
                heard.update((event.reason, event.due) for event in announced)
                for lane in self._lanes:
                    for event in announced:
                        if lane.connection is not None:
                            lane.connection.closing(event)


def fits(limits: Limits, raw_symbols: Iterable[str], raw_symbol: str) -> bool:
    """Whether a connection with some symbols may carry another one."""
    names = [*raw_symbols, raw_symbol]
    if len(names) > limits.symbols_per_connection:
        return False
    size = sum(len(name) + limits.argument_characters for name in names)
    return not limits.characters_per_connection or size <= limits.characters_per_connection
