"""The exchange of a simulation: a seeded market behind the wire format of a real one, and what may go wrong there.

The frames and answers are those of the simulator's venues. What is particular to an exchange stands in `dialects`.
"""

import asyncio
import heapq
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from k2.ingest.exchanges import venue
from k2.ingest.exchanges.base_venue import PROTOCOL_ERROR, Client
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Status
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import UNIT
from tests.simulation.dialects import DIALECTS
from tests.simulation.sockets import Answer, Socket

_LATENCY = 0.05  # seconds of a handshake or a request
_FIRST_ID = 1000
_HELD = 4  # frames that are delivered in another order


class Witness(Protocol):
    """Who is informed of what really happens."""

    def emitted(self, trade: SimTrade, record_id: str) -> None:
        """Take note of a trade."""

    def handed(self, wire: "Wire", symbol: str, trades: Sequence[SimTrade]) -> None:
        """Take note that a frame with trades of a symbol went to a process."""

    def refused(self, raw_symbol: str) -> None:
        """Take note that the exchange refused a symbol."""

    def spoiled(self, trade: SimTrade, record_id: str) -> None:
        """Take note that a trade is only sent as an item that cannot be read."""

    def attempted(self, process: Any) -> None:
        """Take note of a handshake."""

    def lost(self, connection: "Wire", *, announced: bool) -> None:
        """Take note that the exchange ended a connection."""

    def broke(self, process: Any, rule: str) -> None:
        """Take note that a client broke a rule of the exchange."""


@dataclass(eq=False)
class Wire:
    """One websocket as the exchange has it, and what is wrong with it."""

    process: Any
    socket: Socket
    client: Client
    number: int
    notices: bool = False  # of announcements only
    first_trade_at: float = 0.0
    ignored: bool = False  # a request was not answered
    hangs: bool = False  # nothing arrives at either end
    silenced: dict[str, bool] = field(default_factory=dict)  # symbols of which nothing comes, and whether for ever
    drop: int = 0  # frames that get lost
    loses_all: bool = False  # frames, until it is cut; meanwhile its process gets no other connection
    double: int = 0  # frames that come twice
    shuffle: int = 0  # frames that come in another order
    held_back: list[tuple[str, str, Sequence[SimTrade]]] = field(default_factory=list)
    unread_lost: bool = False  # it ended with frames that nobody read
    ping_at: float = 0.0
    unanswered_ping: bool = False


@dataclass
class Market:
    """A symbol's trades. `phantoms` is the chance that ids are skipped, `late` that trades are late."""

    pair: Pair
    rate: float
    next_id: int = _FIRST_ID
    price: int = 100 * UNIT
    late: float = 0.0
    phantoms: float = 0.0


class Exchange:
    """One exchange: its market, its connections and its REST API."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        name: str,
        markets: Sequence[Market],
        micros: Callable[[], int],
        witness: Witness,
        trace: Callable[[str], None],
    ) -> None:
        self.name = name
        self.markets = {market.pair.raw_symbol: market for market in markets}
        self.history = History()
        self.wires: list[Wire] = []
        self.handshakes: Counter[Any] = Counter()  # that are going on, by process
        self.dialect = DIALECTS[name]
        self._loop, self._rng, self._micros, self._witness, self._trace = loop, rng, micros, witness, trace
        self._venue = venue(name)([market.pair for market in markets])
        self._numbers = 0
        self.heal()

    def heal(self) -> None:
        """End every fault that lasts."""
        for name in self.markets:
            self.relist(name)
        self.delisted: set[str] = set()
        self.refuse_handshakes = 0
        self.slow_handshakes = 0
        self.unanswered_requests = 0
        self.bad_items = 0
        self.rest_fault: Callable[[str, Mapping[str, str], Answer], Answer] | None = None
        self.hidden: Callable[[SimTrade], bool] | None = None
        for wire in self.wires:
            wire.drop = wire.double = wire.shuffle = 0
            self._flush(wire)

    def trade_id(self, trade: SimTrade) -> str:
        """Return the id of a trade on the wire."""
        return self._venue.trade_id(trade)

    def lists(self, raw_symbol: str) -> bool:
        """Return whether a symbol is listed at all."""
        return raw_symbol in self.markets

    def trades(self, raw_symbol: str) -> bool:
        """Return whether a symbol trades now."""
        item = self._venue.listings.get(raw_symbol)
        return item is not None and item.status is Status.TRADING

    def delist(self, raw_symbol: str) -> None:
        """End the trade of a symbol, its subscriptions and its place in the instrument list."""
        self._trace(f"delist {raw_symbol}")
        self._venue.listings.set_status(raw_symbol, Status.DELISTED)
        for wire in self.wires:
            wire.client.subscribed.discard(raw_symbol)

    def relist(self, raw_symbol: str) -> None:
        """List a symbol again; its ids go on."""
        self._venue.listings.set_status(raw_symbol, Status.TRADING)

    def wires_of(self, process: Any) -> list[Wire]:
        """Return the open data connections of a process."""
        return [wire for wire in self.wires if wire.process is process and wire.socket.open and not wire.notices]

    # The market

    async def trade(self) -> None:
        """Trade until cancelled."""
        names = list(self.markets)
        due = [(self._loop.time() + self._rng.expovariate(self.markets[name].rate), name) for name in names]
        heapq.heapify(due)
        while True:
            at, name = due[0]
            await asyncio.sleep(at - self._loop.time())
            market = self.markets[name]
            if self.trades(name):
                self.emit(market, self._rng.choice((1, 1, 2)))
            heapq.heapreplace(due, (at + self._rng.expovariate(market.rate), name))

    def emit(self, market: Market, fills: int) -> None:
        """Emit the fills of one order."""
        rng, now = self._rng, self._micros() // 1000 * 1000
        buy = rng.random() < 0.5
        if market.phantoms and rng.random() < market.phantoms:
            market.next_id += rng.randint(1, 3)
        if market.late and rng.random() < market.late:
            now -= rng.choice((1, 3, 3600, 7200)) * 1_000_000
        trades = []
        for _ in range(fills):
            market.price = max(UNIT, market.price + rng.choice((-1, 1)) * UNIT // 100)
            quantity = (market.next_id % 997 + 1) * UNIT // 1000
            trades.append(SimTrade(market.pair, market.next_id, now, market.price, quantity, buy))
            market.next_id += 1
        for trade in trades:
            self.history.add(trade)
            self._witness.emitted(trade, self.trade_id(trade))
        self._broadcast(market.pair, trades)

    def _broadcast(self, pair: Pair, trades: Sequence[SimTrade]) -> None:
        frames: dict[str, list[tuple[str, Sequence[SimTrade]]]] = {}
        spoiled = None
        if self.bad_items and len(trades) > 1:
            self.bad_items -= 1
            spoiled = trades[1]
            self._witness.spoiled(spoiled, self.trade_id(spoiled))
        for wire in self.wires:
            if pair.raw_symbol not in wire.client.subscribed or not wire.socket.open:
                continue
            protocol = wire.client.protocol
            if protocol not in frames:
                texts = list(self.dialect.frames(self._venue, trades, wire.client))
                if spoiled is not None:
                    texts = [self.dialect.spoil(text, self.trade_id(spoiled)) for text in texts]
                frames[protocol] = self._carried(texts, trades, protocol)
            for text, carried in frames[protocol]:
                self._deliver(wire, pair, text, carried)

    def _carried(
        self, texts: Sequence[str], trades: Sequence[SimTrade], protocol: str
    ) -> list[tuple[str, Sequence[SimTrade]]]:
        """Return each frame with its trades; none where frames carry no ids."""
        if protocol == "/" and self.dialect.other_protocol:
            return [(text, ()) for text in texts]
        return (
            [(texts[0], trades)]
            if len(texts) == 1
            else [(text, [each]) for text, each in zip(texts, trades, strict=True)]
        )

    def _deliver(self, wire: Wire, pair: Pair, text: str, trades: Sequence[SimTrade]) -> None:
        if wire.hangs or wire.loses_all or pair.raw_symbol in wire.silenced:
            return
        if wire.drop:
            wire.drop -= 1
            return
        if wire.shuffle:
            wire.shuffle -= 1
            wire.held_back.append((pair.symbol, text, trades))
            if len(wire.held_back) >= _HELD or not wire.shuffle:
                self._rng.shuffle(wire.held_back)
                self._flush(wire)
            return
        self._hand(wire, pair.symbol, text, trades)
        if wire.double:
            wire.double -= 1
            self._hand(wire, pair.symbol, text, trades)

    def _flush(self, wire: Wire) -> None:
        for held_back in wire.held_back:
            self._hand(wire, *held_back)
        wire.held_back.clear()

    def _hand(self, wire: Wire, symbol: str, text: str, trades: Sequence[SimTrade]) -> None:
        wire.socket.feed(text)
        wire.first_trade_at = wire.first_trade_at or self._loop.time()
        self._witness.handed(wire, symbol, trades)

    async def beat(self) -> None:
        """Send heartbeats and pings, and enforce the exchange's rules, once a second until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            now = self._loop.time()
            self.wires = [wire for wire in self.wires if wire.socket.open]
            for wire in list(self.wires):
                if wire.hangs or wire.notices:
                    continue
                if rule := self._venue.violation(wire.client, now):
                    if not wire.ignored:
                        self._witness.broke(wire.process, f"{self.name}: {rule}")
                    self.cut(wire, PROTOCOL_ERROR)
                    continue
                for text in self._venue.heartbeats(wire.client, self.history, self._micros()):
                    wire.socket.feed(text)
                every = self._venue.ping_every
                if every and now - wire.ping_at >= every and not wire.unanswered_ping:
                    wire.ping_at, wire.unanswered_ping = now, True
                    wire.socket.ping()

    # Connections

    async def accept(self, owner: Any, path: str) -> Socket:
        """Open a websocket."""
        self.handshakes[owner] += 1
        try:
            return await self._accept(owner, path)
        finally:
            self.handshakes[owner] -= 1

    async def _accept(self, owner: Any, path: str) -> Socket:
        notices = path == self.dialect.notices_path
        if not notices:
            self._witness.attempted(owner)
            self._trace(f"handshake {path}")
        await asyncio.sleep(_LATENCY)
        if not notices and self.slow_handshakes:
            self.slow_handshakes -= 1
            await asyncio.sleep(5.3)
        if not owner.alive:
            raise aiohttp.ClientConnectionError("the process is dead")
        if not notices and self.refuse_handshakes:
            self.refuse_handshakes -= 1
            raise _handshake_error(503)
        if not notices and any(wire.loses_all for wire in self.wires_of(owner)):
            raise _handshake_error(503)
        if not notices and (path.rstrip("/") or "/") not in self._venue.paths:
            raise _handshake_error(404)
        now = self._loop.time()
        client = Client(protocol=path.rstrip("/") or "/", opened_at=now, last_message_at=now)
        self._numbers += 1
        wire = Wire(owner, Socket(self, self._loop), client, self._numbers, notices, ping_at=now)
        self.wires.append(wire)
        if not notices:
            for text in self._venue.on_connect(client):
                wire.socket.feed(text)
        return wire.socket

    def on_message(self, socket: Socket, text: str) -> None:
        """Take a client's message."""
        wire = self._wire(socket)
        if wire is None or wire.hangs or wire.notices:
            return
        now, client = self._loop.time(), wire.client
        client.last_message_at = now
        client.message_times.append(now)
        self._trace(f"message {wire.number} {text}")
        if self.dialect.is_request(text):
            if self.unanswered_requests:
                self.unanswered_requests -= 1
                wire.ignored = True
                return
            for raw_symbol in [name for name, for_ever in wire.silenced.items() if not for_ever]:
                if self.dialect.subscribes(text, raw_symbol):
                    del wire.silenced[raw_symbol]
        for reply in self.dialect.receive(self._listing(), text, client, self.history):
            wire.socket.feed(reply)

    def _listing(self) -> Any:
        if not self.delisted:
            return self._venue
        listed = (market for name, market in self.markets.items() if name not in self.delisted and self.trades(name))
        return venue(self.name)([market.pair for market in listed])

    def on_pong(self, socket: Socket) -> None:
        """Take a pong."""
        if (wire := self._wire(socket)) is not None:
            wire.unanswered_ping = False
            wire.client.message_times.append(self._loop.time())

    def on_closed(self, socket: Socket) -> None:
        """Forget a connection that its client closed."""
        if (wire := self._wire(socket)) is not None:
            self._trace(f"closed {wire.number}")
            wire.unread_lost = True
        self.wires = [wire for wire in self.wires if wire.socket is not socket]

    def cut(self, wire: Wire, code: int = 0, *, unread: bool = True, announced: bool = False) -> None:
        """End a connection."""
        if not wire.socket.open:
            return
        self._trace(f"cut {wire.number} {code}")
        self._witness.lost(wire, announced=announced)
        wire.unread_lost = not unread
        wire.socket.cut(code, "", unread=unread)
        self.wires = [each for each in self.wires if each is not wire]

    def announce(self, wire: Wire, seconds: float) -> None:
        """Announce that a connection will be cut, where and as the exchange does."""
        now = self._micros()
        text = self.dialect.notice(now, now + int(seconds * 1e6))
        listeners = [wire] if not self.dialect.notices_path else [
            each for each in self.wires if each.notices and each.process is wire.process
        ]  # fmt: skip
        for each in listeners:
            each.socket.feed(text)

    def drop_process(self, process: Any) -> None:
        """Forget the connections of a process that died."""
        for wire in [each for each in self.wires if each.process is process]:
            wire.socket.open = False
        self.wires = [wire for wire in self.wires if wire.process is not process]

    def _wire(self, socket: Socket) -> Wire | None:
        return next((wire for wire in self.wires if wire.socket is socket), None)

    # REST

    async def answer(self, owner: Any, path: str, query: Mapping[str, str]) -> Answer:
        """Answer a GET request."""
        await asyncio.sleep(_LATENCY)
        if not owner.alive:
            raise aiohttp.ClientConnectionError("the process is dead")
        reply = self._venue.rest(path, query, self._visible(), self._micros())
        answer = Answer(reply.body, reply.status, reply.headers)
        if self.rest_fault is not None:
            answer = self.rest_fault(path, query, answer)
        self._trace(f"rest {path} {json.dumps(dict(query))} {answer.status} {len(answer.body)}")
        if answer.status == 0:
            await asyncio.sleep(60)
        return answer

    def _visible(self) -> History:
        if self.hidden is None:
            return self.history
        view = History()
        for trades in self.history.trades.values():
            for trade in trades:
                if not self.hidden(trade):
                    view.add(trade)
        return view


def _handshake_error(status: int) -> aiohttp.WSServerHandshakeError:
    url = URL("wss://exchange")
    info = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.WSServerHandshakeError(info, (), status=status, message="Invalid response status")
