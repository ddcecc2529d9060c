"""The simulator's server: one port for websockets, REST and the control endpoints under /_sim."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

from aiohttp import WSMsgType, web

from k2.common import logs
from k2.ingest.exchanges.base_venue import PROTOCOL_ERROR, Client, Cut, Limit, Reply, Venue
from k2.ingest.simulator.books.feed import BookFeed, truth
from k2.ingest.simulator.connections import QUEUE, Connection, Gate
from k2.ingest.simulator.distortion import place_of_spoiled, spoiled, with_extra_fields
from k2.ingest.simulator.fault_injector import FaultInjector
from k2.ingest.simulator.faults import Fault, UnknownFault, parse
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Status, pair_of
from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.rest_front import RestFront
from k2.ingest.simulator.sources import TradeSource
from k2.schemas.exchanges.spec import UnknownPair
from k2.schemas.values import UNIT

log = logs.get("simulator")

_TICK: Final = 0.005
_RECENT: Final = 1000


class Simulator:
    """One simulated exchange. `start` opens the port, `stop` closes it; `history` records every trade."""

    def __init__(
        self, venue: Venue, source: TradeSource, faults: Sequence[Fault] = (), since: int = 0, seed: str = "1"
    ) -> None:
        """Prepare the exchange. `since` (UTC microseconds) starts trading in the past; those trades are history."""
        self.venue = venue
        self.history = History(seed)
        self.port = 0
        self.clock_offset = 0  # of the exchange's clock, in microseconds
        self._source = source
        self._since = since
        self._connections: set[Connection] = set()
        self._recent: deque[tuple[str, str]] = deque(maxlen=_RECENT)  # raw symbol and trade frame
        self._opened = time.monotonic()
        for fault in faults:
            self._check(fault)
        self._faults = FaultInjector(faults, venue.listings.chosen)
        self._rest = RestFront(venue, self.history, self._faults, time.monotonic())
        self._books = BookFeed(venue, self.history.books, self._faults, self._connections)
        self._gate = Gate()
        self._answer_delay = 0.0
        self._subscribed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._begin: dict[str, Callable[[Fault], None]] = {
            **self._books.begin,
            "repeat": self._repeat,
            "late": self._late,
            "reset": lambda _: self._source.relist(),
            "conflict": self._conflict,
            "close": lambda _: self._abort_all("fault"),
            "close-code": lambda fault: self._end_all(Cut(int(fault.amount), "fault")),
            "shutdown": self._announce_shutdown,
            "maintenance": lambda _: self._end_all(self.venue.end),
            "late-answer": self._delay_answers,
            "limit": self._set_limit,
            "status": lambda fault: self._rest.statuses.append((int(fault.amount), fault.target)),
            "ban": lambda fault: self._rest.meter.ban(fault.amount, time.monotonic()),
            "weight": lambda fault: self._rest.meter.add(fault.amount),
            "lag": lambda fault: setattr(self._rest, "lag", fault.amount),
            "phantom": lambda fault: self._source.skip_ids(fault.target, int(fault.amount)),
            "clock": self._set_clock,
            **dict.fromkeys(("stuck", "frozen"), self._hold_symbol),
            **dict.fromkeys(("list", "halt", "delist"), self._change_listing),
            **dict.fromkeys(("malformed", "oversized", "unknown"), self._confuse),
        }
        self.spoiled: list[SimTrade] = []  # trades that were sent with an impossible value
        self._counts: dict[str, int] = {"frames": 0, "dropped": 0, "violations": 0, "pongs": 0}

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Open the port (0: any free one) and return it. Raises OSError if it is in use."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/_sim/emitted", self._emitted),
                web.get("/_sim/stats", self._stats),
                web.get("/_sim/book", self._book),
                web.post("/_sim/faults", self._fault),
                web.get("/{path:.*}", self._get),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._tasks = [asyncio.create_task(self._trade_loop()), asyncio.create_task(self._heartbeat_loop())]
        return self.port

    async def stop(self) -> None:
        """Close the port and every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._abort_all("stop")
        if self._runner is not None:
            await self._runner.cleanup()

    def inject(self, fault: Fault) -> None:
        """Schedule a fault, `fault.at` seconds from now. Raises `UnknownPair` for a symbol that cannot be listed."""
        self._check(fault)
        self._faults.add(replace(fault, at=fault.at + self._elapsed))

    def _check(self, fault: Fault) -> None:
        if fault.kind == "list":
            pair_of(self.venue.spec, fault.target or self.venue.new_symbol)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many frames, trades and requests of each kind there were."""
        return {**self._counts, **self._rest.counts}

    @property
    def finished(self) -> bool:
        """Whether the trade source is exhausted."""
        return self._source.finished

    @property
    def _now(self) -> int:
        """The exchange's time in UTC microseconds."""
        return time.time_ns() // 1000 + self.clock_offset

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._opened

    @property
    def _behind(self) -> bool:
        return any(connection.queue.qsize() > QUEUE // 2 for connection in self._connections)

    async def _trade_loop(self) -> None:
        if self._source.wait_for_client:
            await self._subscribed.wait()
            await asyncio.sleep(0.5)
        self._source.open(self._since or time.time_ns() // 1000)
        while True:
            self._begin_faults()
            if not (self._source.lossless and self._behind):
                for trades, frames in self._source.until(time.time_ns() // 1000):
                    self._on_trades(trades, frames)
            await asyncio.sleep(_TICK)

    def _on_trades(self, trades: Sequence[SimTrade], frames: Sequence[str]) -> None:
        """Add a batch to the history and send it, unless a fault suppresses it."""
        if not trades:
            return
        if self.clock_offset:
            trades = [replace(trade, time=trade.time + self.clock_offset) for trade in trades]
        for trade in trades:
            self.history.add(trade)
        raw_symbol = trades[0].pair.raw_symbol
        if self._faults.suppresses_trades(self._elapsed, raw_symbol) or self._faults.drop_trades(
            len(trades), raw_symbol
        ):
            self._counts["dropped"] += len(trades)
            return
        if not frames:
            self._books.send(self.history.books.follow(trades))
        else:
            self._broadcast(raw_symbol, dict.fromkeys(self.venue.paths, frames))
            return
        paths = self.venue.paths
        made = {path: list(self.venue.frames(trades, path if number else "")) for number, path in enumerate(paths)}
        if self._faults.take("bad-item", 1, [raw_symbol]):
            self._spoil(trades, made)
        if self._faults.active("extra", self._elapsed):
            made = {path: [with_extra_fields(text).decode() for text in texts] for path, texts in made.items()}
        self._broadcast(raw_symbol, made)

    def _spoil(self, trades: Sequence[SimTrade], frames: dict[str, list[str]]) -> None:
        """Give one trade an impossible side: that in the middle of the first frame."""
        first = frames[self.venue.paths[0]]
        per_frame = len(trades) // len(first)
        self.spoiled.append(trades[place_of_spoiled(per_frame)])
        for texts in frames.values():
            texts[:1] = [spoiled(text) for text in texts[:1]]

    def _broadcast(self, raw_symbol: str, frames: Mapping[str, Sequence[str]]) -> None:
        """Send the frames of a symbol, by the path of the websocket."""
        self._recent.extend((raw_symbol, frame) for frame in frames[self.venue.paths[0]])
        for connection in self._connections:
            client = connection.client
            if raw_symbol in client.subscribed and raw_symbol not in client.stuck | client.frozen:
                for frame in frames.get(client.protocol, ()):
                    connection.put(frame)
                    self._counts["frames"] += 1

    def _begin_faults(self) -> None:
        for fault in self._faults.start_due(self._elapsed):
            log.warning("fault", kind=fault.kind, amount=fault.amount, target=fault.target)
            if begin := self._begin.get(fault.kind):
                begin(fault)

    def _repeat(self, fault: Fault) -> None:
        for raw_symbol, frame in list(self._recent)[-int(fault.amount) :]:
            self._broadcast(raw_symbol, {self.venue.paths[0]: [frame]})

    def _late(self, fault: Fault) -> None:
        for trade in self._source.late(time.time_ns() // 1000 - int(fault.amount * 1e6)):
            self._on_trades([trade], ())

    def _set_clock(self, fault: Fault) -> None:
        self.clock_offset = int(fault.amount * 1e6)

    def _change_listing(self, fault: Fault) -> None:
        listings = self.venue.listings
        if fault.kind == "list":
            pair = pair_of(self.venue.spec, fault.target or self.venue.new_symbol)
            listings.add(pair, self._now)
            self._source.add(pair, time.time_ns() // 1000)
            return
        raw_symbol = listings.chosen(fault.target)
        listings.set_status(raw_symbol, Status.HALTED if fault.kind == "halt" else Status.DELISTED)
        self._source.halt(raw_symbol)

    def _delay_answers(self, fault: Fault) -> None:
        self._answer_delay = fault.amount

    def _set_limit(self, fault: Fault) -> None:
        if fault.target == "weight":
            self._rest.meter.capacity = fault.amount
        else:
            setattr(self.venue.rules, fault.target, int(fault.amount))

    def _hold_symbol(self, fault: Fault) -> None:
        for connection in self._connections:
            client = connection.client
            (client.stuck if fault.kind == "stuck" else client.frozen).add(fault.target)

    def _abort_all(self, reason: str) -> None:
        for connection in list(self._connections):
            connection.abort(reason)

    def _end_all(self, cut: Cut) -> None:
        for connection in list(self._connections):
            connection.end(cut)

    def _confuse(self, fault: Fault) -> None:
        sample = self._recent[-1][1] if self._recent else "{}"
        for frame in self._faults.malformed_frames(fault.kind, int(fault.amount), sample):
            for connection in self._connections:
                connection.put(frame)

    def _conflict(self, _: Fault) -> None:
        for raw_symbol in self.history.trades:
            for trade in self.history.newest(raw_symbol, 1):
                wrong = replace(trade, price=trade.price + UNIT)
                self._broadcast(raw_symbol, {self.venue.paths[0]: list(self.venue.frames([wrong]))})

    def _announce_shutdown(self, fault: Fault) -> None:
        for connection in list(self._connections):
            begins = self._now + int(fault.amount * 1e6)
            connection.reply(self.venue.announcement(connection.client, self._now, begins))
            asyncio.get_running_loop().call_later(fault.amount, connection.end, self.venue.end)

    async def _heartbeat_loop(self) -> None:
        """Send heartbeats and pings and enforce the client rules, once a second."""
        while True:
            await asyncio.sleep(1.0)
            now, elapsed = time.monotonic(), self._elapsed
            for connection in list(self._connections):
                reason = self.venue.violation(connection.client, now) or connection.missing_pong(now)
                if reason:
                    self._counts["violations"] += 1
                    log.warning("violation", reason=reason)
                    await connection.socket.close(code=PROTOCOL_ERROR, message=reason.encode())
                elif self._faults.too_old(now - connection.client.opened_at):
                    await connection.socket.close(code=1001, message=b"connection age")
                elif not self._faults.silent(elapsed):
                    for frame in self.venue.heartbeats(connection.client, self.history, self._now):
                        connection.put(frame)
                    await connection.ping(self.venue.ping_every, now)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        now = time.monotonic()
        reply = self._rest.answer(request.path, request.query, self._now, now, self._elapsed)
        headers = {"Content-Type": "application/json", **reply.headers}
        if reply.cut:
            return await _send_half(request, reply.body, headers)
        return web.Response(body=reply.body, status=reply.status, headers=headers)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/") or "/"
        if path not in self.venue.paths:
            return web.Response(status=404, text=f"websockets are at {', '.join(self.venue.paths)}\n")
        if self._faults.refuse_connection(self._elapsed):
            return web.Response(status=503)
        if not self._gate.admits(self.venue.rules, time.monotonic()):
            self._counts["violations"] += 1
            return web.Response(status=self.venue.connects_status)
        socket = web.WebSocketResponse(autoping=False, compress=False, timeout=1.0)
        await socket.prepare(request)
        now = time.monotonic()
        connection = Connection(socket, Client(protocol=path, opened_at=now, last_message_at=now))
        writer = asyncio.create_task(connection.write())
        self._connections.add(connection)
        try:
            for frame in self.venue.on_connect(connection.client):
                connection.put(frame)
            await self._listen(connection)
        finally:
            self._connections.discard(connection)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    async def _listen(self, connection: Connection) -> None:
        async for message in connection.socket:
            now = time.monotonic()
            if message.type is WSMsgType.PONG:
                if connection.ping_payload and bytes(message.data) != connection.ping_payload:
                    self._counts["violations"] += 1
                    await connection.socket.close(code=PROTOCOL_ERROR, message=b"wrong pong")
                self._counts["pongs"] += 1
                connection.client.message_times.append(now)
                connection.ping_payload = b""
            elif message.type is WSMsgType.PING:
                wrong = self._faults.wrong_pong(self._elapsed)
                await connection.socket.pong(b"wrong" if wrong else message.data)
            elif message.type is WSMsgType.TEXT:
                self._message(connection, message.data, now)

    def _message(self, connection: Connection, text: str, now: float) -> None:
        client = connection.client
        client.last_message_at = now
        if connection.ended:
            return
        client.message_times.append(now)
        replies = self._replies(text, client, now)
        if client.subscribed or client.quotes or client.books:
            self._subscribed.set()
        if self._faults.silent(self._elapsed) or ("ping" in text and self._faults.wrong_pong(self._elapsed)):
            return
        if self._answer_delay:
            asyncio.get_running_loop().call_later(self._answer_delay, connection.reply, replies)
        elif connection.reply(replies):
            self._counts["violations"] += 1

    def _replies(self, text: str, client: Client, now: float) -> Sequence[Reply]:
        """Return the replies to a message, as far as no fault interferes with it."""
        requested = self.venue.requested(text)
        if requested and self._faults.take("unanswered", 1, requested):
            return ()
        if requested and self._faults.take("busy", 1, requested):
            return self.venue.refuse(Limit.BUSY, text)
        if requested and self._faults.take("undone", 1, requested):
            client = deepcopy(client)
        client.stuck.difference_update(requested)
        return self.venue.handle(text, client, self.history, now)

    async def _emitted(self, request: web.Request) -> web.Response:
        """Return the ids of all trades, or with `channel=quotes` the numbers of all quotes, by raw symbol."""
        if request.query.get("channel") == "quotes":
            quotes = self.history.books.quotes
            return web.json_response({name: [quote.update for quote in items] for name, items in quotes.items()})
        trades, id_of = self.history.trades, self.venue.trade_id
        return web.json_response({name: [id_of(trade) for trade in items] for name, items in trades.items()})

    async def _book(self, request: web.Request) -> web.Response:
        """Return the order book of a symbol."""
        book = self.history.books.books.get(request.query.get("symbol", ""))
        return web.Response(status=404) if book is None else web.json_response(truth(book))

    async def _stats(self, _: web.Request) -> web.Response:
        emitted = {raw_symbol: len(trades) for raw_symbol, trades in self.history.trades.items()}
        document: dict[str, Any] = {**self.counts, "clients": len(self._connections), "emitted": emitted}
        return web.json_response({**document, "finished": self.finished})

    async def _fault(self, request: web.Request) -> web.Response:
        try:
            self.inject(parse((await request.text()).strip()))
        except (UnknownFault, UnknownPair) as error:
            return web.Response(status=400, text=f"{error}\n")
        return web.Response(text="ok\n")


async def _send_half(request: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send half of a body and lose the connection."""
    response = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
