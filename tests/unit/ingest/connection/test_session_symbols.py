"""What becomes of each symbol of a shard, over real sockets: refused, unanswered, silent, added and removed."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest
from aiohttp import WSMsgType, web

from k2.ingest.connection import lane
from k2.ingest.connection.session import Tuning
from k2.ingest.simulator.faults import parse
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES

FAST = {"backoff_first": 0.05, "backoff_limit": 0.1, "answer_within": 0.5}


class Exchange:
    """Bybit's spot trades: one bad topic refuses the whole request, and so does one that is subscribed already."""

    def __init__(self) -> None:
        self.bad: dict[str, str] = {}  # refusals by symbol, with {topic}
        self.unanswered: set[str] = set()  # requests with one of these are not answered
        self.silent: dict[str, str] = {}  # symbols without trades, and what cures them: subscribe or connect
        self.busy = 0  # requests that are refused as too many
        self.most = 10  # arguments of a request
        self.characters = 21_000  # of all arguments of a connection
        self.requests: list[dict] = []
        self.sockets: dict[web.WebSocketResponse, set[str]] = {}
        self.status: list[web.WebSocketResponse] = []
        self.opened = 0
        self.handshake = 0.0
        self.rest_delay = 0.0
        self.url = ""
        self._trades = count(1)

    def application(self) -> web.Application:
        """The websockets and the REST API."""
        app = web.Application()
        app.add_routes([
            web.get("/v5/public/spot", self._spot),
            web.get("/v5/public/misc/status", self._status),
            web.get("/v5/market/recent-trade", self._recent),
        ])  # fmt: skip
        return app

    async def trade(self) -> None:
        """Trade each symbol that is subscribed ten times a second."""
        while True:
            await asyncio.sleep(0.1)
            for socket, symbols in list(self.sockets.items()):
                for symbol in sorted(symbols - self.silent.keys()):
                    await self._send(socket, {"topic": f"publicTrade.{symbol}", "data": [self._item(symbol)]})

    def _item(self, symbol: str) -> dict:
        number = next(self._trades)
        at = int(asyncio.get_running_loop().time() * 1000)
        return {"T": at, "s": symbol, "S": "Buy", "v": "1", "p": "2", "i": str(number), "seq": number}

    @staticmethod
    async def _send(socket: web.WebSocketResponse, message: dict) -> None:
        if not socket.closed:
            await socket.send_json(message)

    async def _spot(self, request: web.Request) -> web.WebSocketResponse:
        await asyncio.sleep(self.handshake)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.opened += 1
        self.sockets[socket] = set()
        self.silent = {symbol: cure for symbol, cure in self.silent.items() if cure != "connect"}
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._receive(socket, json.loads(message.data))
        del self.sockets[socket]
        return socket

    async def _receive(self, socket: web.WebSocketResponse, request: dict) -> None:
        if request["op"] == "ping":
            return
        self.requests.append(request)
        symbols = [topic.removeprefix("publicTrade.") for topic in request["args"]]
        answer = {"req_id": request["req_id"], "op": request["op"], "success": True, "ret_msg": ""}
        subscribed = self.sockets[socket]
        if request["op"] == "unsubscribe":
            subscribed -= set(symbols)
        elif self.unanswered & set(symbols):
            return
        elif words := self._refusal(symbols, subscribed):
            answer |= {"success": False, "ret_msg": words}
        else:
            subscribed |= set(symbols)
            self.silent = {s: cure for s, cure in self.silent.items() if not (cure == "subscribe" and s in symbols)}
        await self._send(socket, answer)

    def _refusal(self, symbols: list[str], subscribed: set[str]) -> str:
        if self.busy:
            self.busy -= 1
            return "Too many visits!"
        if len(symbols) > self.most:
            return f"args size >{self.most}"
        if sum(len(f"publicTrade.{symbol}") for symbol in subscribed | set(symbols)) > self.characters:
            return "args length exceeds the limit"
        for symbol in symbols:
            if symbol in self.bad:
                return self.bad[symbol].format(topic=f"publicTrade.{symbol}")
            if symbol in subscribed:
                return f"error:already subscribed,topic:publicTrade.{symbol}"
        return ""

    async def _status(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.status.append(socket)
        async for _ in socket:
            pass
        return socket

    async def _recent(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.rest_delay)
        symbol = request.query["symbol"]
        if symbol in self.bad:
            return web.json_response({"retCode": 10001, "retMsg": "Not supported symbols", "result": {}})
        item = self._item(symbol)
        row = {"execId": item["i"], "price": "2", "size": "1", "side": "Buy", "time": str(item["T"])}
        return web.json_response({"retCode": 0, "retMsg": "OK", "result": {"list": [row]}})


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    """An exchange on a free port."""
    made = Exchange()
    runner = web.AppRunner(made.application(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"127.0.0.1:{runner.addresses[0][1]}"
    trading = asyncio.create_task(made.trade())
    yield made
    trading.cancel()
    await runner.cleanup()


Start = Callable[..., Awaitable]


@pytest.fixture
async def start(exchange: Exchange, shard) -> Start:
    """Starts a shard of some symbols; `limits` replace those of the exchange."""

    async def started(*raw_symbols: str, limits: dict | None = None, **tuning: float):
        ingest = shard("bybit", raw_symbols, f"http://{exchange.url}")
        changed = {"subscribe_interval": 0.01, "snapshot_delay": 0.05} | (limits or {})
        ingest.limits = dataclasses.replace(ingest.limits, **changed)
        ingest.task = ingest.start(f"ws://{exchange.url}", tuning=Tuning(**(FAST | tuning)), repair=False)
        return ingest

    return started


def states(ingest) -> dict[str, str]:
    return {symbol: state.value for symbol, (state, _) in ingest.stats.symbol_states.items()}


@pytest.mark.parametrize(
    "words", ["error:handler not found,topic:{topic}", "Invalid symbol :[{topic}]", "Invalid topic: {topic}", "no"]
)
async def test_one_bad_symbol_of_ten_leaves_the_nine_others_flowing(words, exchange, start, eventually):
    names = [f"A{number}USDT" for number in range(10)]
    exchange.bad["A4USDT"] = words
    ingest = await start(*names)
    expected = {name: "refused" if name == "A4USDT" else "flowing" for name in names}
    await eventually(lambda: states(ingest) == expected)
    await asyncio.sleep(0.3)
    assert ingest.stats.refused == {"A4USDT": words.format(topic="publicTrade.A4USDT")}
    assert (ingest.stats.reconnects, exchange.opened) == (0, 1)
    assert len(exchange.requests) <= 9  # and no loop


async def test_a_name_that_is_part_of_another_is_not_taken_for_it(exchange, start, eventually):
    exchange.bad["BETHUSDT"] = "Invalid topic: {topic}"
    ingest = await start("ETHUSDT", "BETHUSDT", "WBETHUSDT")
    await eventually(lambda: states(ingest) == {"ETHUSDT": "flowing", "BETHUSDT": "refused", "WBETHUSDT": "flowing"})


async def test_a_request_that_is_never_answered_costs_only_the_symbol_that_caused_it(exchange, start, eventually):
    names = [f"A{number}USDT" for number in range(8)]
    exchange.unanswered.add("A3USDT")
    ingest = await start(*names)
    expected = {name: "unanswered" if name == "A3USDT" else "flowing" for name in names}
    await eventually(lambda: states(ingest) == expected)
    exchange.unanswered.clear()
    assert not ingest.task.done()


async def test_a_connection_on_which_nothing_is_answered_is_replaced(exchange, start, eventually):
    exchange.unanswered.add("BTCUSDT")
    ingest = await start("BTCUSDT", answer_within=0.2)
    await eventually(lambda: ingest.stats.errors["connection_unanswered"] >= 1)
    exchange.unanswered.clear()
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing"})


async def test_a_busy_exchange_refuses_nothing_for_good(exchange, start, eventually):
    exchange.busy = 1
    ingest = await start("BTCUSDT", "ETHUSDT")
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"})
    assert ingest.stats.refused == {}


async def test_smaller_requests_than_documented_are_found_out(exchange, start, eventually):
    exchange.most = 3
    ingest = await start(*(f"A{number}USDT" for number in range(10)))
    await eventually(lambda: list(states(ingest).values()) == ["flowing"] * 10)


@pytest.mark.parametrize("announced", [True, False])
async def test_symbols_beyond_what_one_connection_carries_get_another(announced, exchange, start, eventually):
    exchange.characters = 3 * len("publicTrade.A0USDT")
    limits = {"characters_per_connection": exchange.characters} if announced else {}
    ingest = await start(*(f"A{number}USDT" for number in range(8)), limits=limits)
    await eventually(lambda: list(states(ingest).values()) == ["flowing"] * 8, 20)
    await eventually(lambda: ingest.stats.connections == ingest.stats.lanes == 3)
    assert ingest.stats.connected
    assert ingest.stats.reconnects == 0


async def test_symbols_that_are_all_refused_are_shown_and_tried_again(exchange, start, eventually, monkeypatch):
    monkeypatch.setattr("k2.ingest.connection.refusals._RETRY_FIRST", 0.5)
    exchange.bad = {"AUSDT": "no {topic}", "BUSDT": "never {topic}"}
    ingest = await start("AUSDT", "BUSDT")
    refused = {"AUSDT": "no publicTrade.AUSDT", "BUSDT": "never publicTrade.BUSDT"}
    await eventually(lambda: ingest.stats.refused == refused)
    assert "refused every symbol; AUSDT: no" in ingest.stats.message
    assert not ingest.stats.connected
    exchange.bad = {}
    await eventually(lambda: states(ingest) == {"AUSDT": "flowing", "BUSDT": "flowing"})
    assert not ingest.task.done()


async def test_symbols_are_added_and_removed_on_the_open_connection(exchange, start, eventually):
    ingest = await start("BTCUSDT", "ETHUSDT")
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"})
    ingest.session.set_symbols(pairs_of("ETHUSDT", "SOLUSDT"))
    await eventually(lambda: states(ingest) == {"ETHUSDT": "flowing", "SOLUSDT": "flowing"})
    await eventually(lambda: list(exchange.sockets.values()) == [{"ETHUSDT", "SOLUSDT"}])
    assert exchange.opened == 1
    assert ingest.stats.symbols == ("ETHUSDT", "SOLUSDT")


def pairs_of(*names: str) -> list:
    return [pair_of(EXCHANGES["bybit"], name) for name in names]


async def test_a_symbol_that_comes_back_has_a_window_for_what_was_traded_meanwhile(exchange, start, eventually):
    ingest = await start("BTCUSDT", "ETHUSDT")
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"})
    ingest.session.set_symbols(pairs_of("ETHUSDT"))
    await eventually(lambda: list(exchange.sockets.values()) == [{"ETHUSDT"}])
    ingest.session.set_symbols(pairs_of("ETHUSDT", "BTCUSDT"))
    await eventually(lambda: ingest.stats.gaps_detected == {"BTCUSDT": 1})
    assert exchange.opened == 1


async def test_symbols_that_change_during_a_handshake_are_those_of_the_connection(exchange, start, eventually):
    exchange.handshake = 0.4
    ingest = await start("BTCUSDT", "ETHUSDT")
    await asyncio.sleep(0.2)
    ingest.session.set_symbols(pairs_of("ETHUSDT", "SOLUSDT"))
    await eventually(lambda: states(ingest) == {"ETHUSDT": "flowing", "SOLUSDT": "flowing"})
    assert list(exchange.sockets.values()) == [{"ETHUSDT", "SOLUSDT"}]


async def test_symbols_that_change_during_a_rotation_are_those_of_the_successor(exchange, start, eventually):
    ingest = await start("BTCUSDT", "ETHUSDT")
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"} and exchange.status)
    await announce(exchange, ingest)
    await eventually(lambda: list(exchange.sockets.values()) == [{"BTCUSDT", "ETHUSDT"}] * 2)
    ingest.session.set_symbols(pairs_of("ETHUSDT", "SOLUSDT"))
    await eventually(lambda: list(exchange.sockets.values()) == [{"ETHUSDT", "SOLUSDT"}])
    await eventually(lambda: states(ingest) == {"ETHUSDT": "flowing", "SOLUSDT": "flowing"})
    assert exchange.opened == 2


async def test_a_connection_that_hangs_before_its_rotation_leaves_a_window(exchange, start, eventually, monkeypatch):
    monkeypatch.setattr("k2.ingest.connection.connection._HEARD", 0.5)
    monkeypatch.setattr("k2.ingest.connection.lane._WATCH_EVERY", 0.1)
    ingest = await start("BTCUSDT", "ETHUSDT")
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"} and exchange.status)
    exchange.silent = {"BTCUSDT": "connect", "ETHUSDT": "connect"}
    await asyncio.sleep(1.0)
    await announce(exchange, ingest)
    await eventually(lambda: ingest.stats.gaps_detected == {"BTCUSDT": 1, "ETHUSDT": 1})
    assert (ingest.stats.reconnects, exchange.opened) == (0, 2)


async def test_a_symbol_may_be_removed_while_it_is_asked_for(exchange, start, eventually):
    ingest = await start("BTCUSDT", "ETHUSDT", silence=0.5)
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"})
    exchange.rest_delay, exchange.silent["BTCUSDT"] = 1.0, "connect"
    await eventually(lambda: ingest.session._question is not None)
    question = ingest.session._question
    ingest.session.set_symbols(pairs_of("ETHUSDT"))
    await eventually(question.done)
    assert question.exception() is None


async def test_a_silent_symbol_is_subscribed_again(exchange, start, eventually):
    ingest = await start("BTCUSDT", "ETHUSDT", silence=1.0)
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"})
    exchange.silent["ETHUSDT"] = "subscribe"
    await eventually(lambda: ingest.stats.silences["ETHUSDT"] == 1)
    await eventually(lambda: not exchange.silent)
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"})
    assert [request["op"] for request in exchange.requests[-2:]] == ["unsubscribe", "subscribe"]
    assert [request["args"] for request in exchange.requests[-2:]] == [["publicTrade.ETHUSDT"]] * 2
    assert (ingest.stats.reconnects, ingest.stats.silences["BTCUSDT"]) == (0, 0)
    await eventually(lambda: ingest.stats.gaps_detected["ETHUSDT"] == 1)  # what was missed is a window to repair


async def test_a_symbol_that_stays_silent_gets_a_new_connection_and_others_lose_nothing(exchange, start, eventually):
    ingest = await start("BTCUSDT", "ETHUSDT", silence=0.7)
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"})
    exchange.silent["ETHUSDT"] = "connect"
    await eventually(lambda: exchange.opened == 2, 20)
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing", "ETHUSDT": "flowing"})
    assert ingest.stats.silences["ETHUSDT"] >= 2
    assert ingest.stats.reconnects == 0
    assert ingest.stats.gaps_detected["BTCUSDT"] == 0


async def test_a_slow_handshake_does_not_make_a_connection_stale(exchange, start, eventually):
    exchange.handshake = 0.8
    ingest = await start("BTCUSDT", stale_after=0.6)
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing"})
    assert (ingest.stats.reconnects, ingest.stats.errors["connection_stale"]) == (0, 0)


async def test_the_first_reconnect_is_immediate(exchange, start, eventually, monkeypatch):
    waits = []
    next_delay = lane.Backoff.next_delay
    monkeypatch.setattr(
        lane.Backoff, "next_delay", lambda self, **how: waits.append(next_delay(self, **how)) or waits[-1]
    )
    ingest = await start("BTCUSDT", backoff_first=5.0, backoff_limit=60.0)
    for number in range(1, 4):
        received = ingest.stats.received["BTCUSDT"]
        await eventually(lambda received=received: ingest.stats.received["BTCUSDT"] > received)
        await next(iter(exchange.sockets)).close(code=1012, message=b"service restart")
        await eventually(lambda number=number: exchange.opened == number + 1)
    assert len(waits) == 3
    assert max(waits) < 0.25


async def announce(exchange: Exchange, ingest) -> None:
    """Announce maintenance, twice as exchanges do."""
    begin = ingest.session._shard.time_ns() // 1_000_000 + 20_000
    row = {"title": "Upgrade", "state": "scheduled", "begin": str(begin)}
    for _ in range(2):
        await exchange.status[0].send_json({"topic": "system.status", "data": [row]})


async def test_announced_maintenance_is_preceded_by_a_successor_that_flows(exchange, start, eventually):
    ingest = await start("BTCUSDT")
    await eventually(lambda: states(ingest) == {"BTCUSDT": "flowing"} and exchange.status)
    await announce(exchange, ingest)
    await eventually(lambda: exchange.opened == 2 and len(exchange.sockets) == 1)
    await asyncio.sleep(0.3)
    assert exchange.opened == 2
    assert (ingest.stats.reconnects, ingest.stats.gaps_detected) == (0, {})


async def test_a_stream_of_binance_that_does_not_exist_is_refused_by_rest(simulate, shard, eventually, monkeypatch):
    monkeypatch.setattr("k2.ingest.connection.connection._REPEATED_AFTER", 0.3)
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=50)
    ingest = shard("binance", ["NOPEUSDT", "BTCUSDT"], f"http://127.0.0.1:{simulator.port}")
    ingest.start(f"ws://127.0.0.1:{simulator.port}", tuning=Tuning(**FAST, silence=0.5))
    await eventually(lambda: states(ingest).get("BTCUSDT") == "flowing")
    await eventually(lambda: states(ingest)["NOPEUSDT"] == "refused")
    assert "-1121" in ingest.stats.refused["NOPEUSDT"]


async def test_an_unknown_control_message_is_counted_and_nothing_else(simulate, shard, eventually):
    simulator = await simulate("okx", symbols=["BTC-USDT"], rate=50)
    ingest = shard("okx", ["BTC-USDT"], f"http://127.0.0.1:{simulator.port}")
    ingest.start(f"ws://127.0.0.1:{simulator.port}", tuning=Tuning(**FAST))
    await eventually(lambda: states(ingest).get("BTCUSDT") == "flowing")
    simulator.inject(parse("unknown=3"))
    await eventually(lambda: ingest.stats.errors["unknown_message"] == 3)
    before = ingest.stats.received["BTCUSDT"]
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > before)
    assert ingest.stats.reconnects == 0
