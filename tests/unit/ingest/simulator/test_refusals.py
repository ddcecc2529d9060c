"""What simulated exchanges refuse, ignore, announce and end, each in its own words."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import Adapter, Closing, Refusal, Refused, SequencedRecord, Subscribed, Unsubscribed
from k2.ingest.simulator.faults import parse
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES

NO_SUCH = {"binance": "NOPEUSDT", "kraken": "NOPE/USD", "coinbase": "NOPE-USD", "bybit": "NOPEUSDT", "okx": "NOPE-USDT"}


class Reader:
    """A client that reads as the adapter does, and sends what it is asked to."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, exchange: Adapter) -> None:
        self.socket, self.adapter = socket, exchange
        self.number = 0

    async def subscribe(self, *raw_symbols: str, remove: bool = False) -> None:
        pairs = [pair_of(self.adapter.spec, raw_symbol) for raw_symbol in raw_symbols]
        self.number += 1
        encode = self.adapter.unsubscribe if remove else self.adapter.subscribe
        await self.socket.send_str(encode(pairs, self.number).decode())

    async def next(self, *kinds: type, within: float = 10):
        async with asyncio.timeout(within):
            while True:
                message = await self.socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return message
                for event in self.adapter.parse(message.data.encode(), 0):
                    if isinstance(event, kinds):
                        return event

    async def symbols(self, seconds: float) -> set[str]:
        """The symbols whose trades arrive within some seconds."""
        arrived: set[str] = set()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    arrived.add((await self.next(SequencedRecord, within=60)).record.symbol)
        except TimeoutError:
            return arrived


@asynccontextmanager
async def connected(http, simulator, exchange: str) -> AsyncIterator[Reader]:
    names = [*simulator.venue.default_symbols, NO_SUCH[exchange], simulator.venue.new_symbol]
    made = adapter(exchange, TRADES, [pair_of(EXCHANGES[exchange], name) for name in names])
    async with http.ws_connect(f"ws://127.0.0.1:{simulator.port}{made.path}", autoclose=False) as socket:
        yield Reader(socket, made)


async def begun(simulator, eventually, *faults: str) -> None:
    for fault in faults:
        simulator.inject(parse(fault))
    await eventually(lambda: not simulator._faults._scheduled)


@pytest.mark.parametrize(
    ("exchange", "words", "flowing"),
    [
        ("binance", None, {"BTCUSDT"}),  # it acknowledges what does not exist
        ("kraken", "Currency pair not supported NOPE/USD", {"BTCUSD"}),
        ("coinbase", "Failed to subscribe: NOPE-USD is not a valid product", set()),  # the whole call is ignored
        ("bybit", "Invalid symbol :[publicTrade.NOPEUSDT]", set()),  # the whole batch is refused
        ("okx", "60018: Wrong URL or channel:trades-all,instId:NOPE-USDT doesn't exist.", {"BTCUSDT"}),
    ],
)
async def test_a_symbol_that_does_not_exist(exchange, words, flowing, simulate, http):
    simulator = await simulate(exchange, rate=400)
    async with connected(http, simulator, exchange) as reader:
        await reader.subscribe(simulator.venue.default_symbols[0], NO_SUCH[exchange])
        if words:
            refused = await reader.next(Refused)
            assert refused.reason.startswith(words)
            assert refused.raw_symbols == (NO_SUCH[exchange],)
        else:
            assert await reader.next(Refused, Subscribed) == Subscribed((), 1)
        assert await reader.symbols(1.5) == flowing


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_delisted_symbol_is_one_that_does_not_exist(exchange, simulate, http, eventually):
    simulator = await simulate(exchange, rate=400)
    gone = simulator.venue.default_symbols[1]
    await begun(simulator, eventually, "delist")
    async with connected(http, simulator, exchange) as reader:
        await reader.subscribe(gone)
        answer = await reader.next(Refused, Subscribed)
        assert isinstance(answer, Subscribed if exchange == "binance" else Refused)
        assert await reader.symbols(1.0) == set()


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_symbol_is_unsubscribed_and_subscribed_again(exchange, simulate, http):
    simulator = await simulate(exchange, rate=400)
    first, second = simulator.venue.default_symbols
    async with connected(http, simulator, exchange) as reader:
        await reader.subscribe(first, second)
        await reader.next(SequencedRecord)
        await reader.subscribe(second, remove=True)
        kinds = (Subscribed,) if exchange == "coinbase" else (Subscribed, Unsubscribed)
        await reader.next(*kinds)
        await reader.symbols(0.2)
        assert await reader.symbols(1.0) == {pair_of(EXCHANGES[exchange], first).symbol}
        await reader.subscribe(second)
        assert len(await reader.symbols(1.5)) == 2


@pytest.mark.parametrize(
    ("exchange", "words"),
    [("kraken", "Already subscribed"), ("bybit", "error:already subscribed,topic:publicTrade.BTCUSDT")],
)
async def test_what_is_subscribed_already_is_refused(exchange, words, simulate, http):
    simulator = await simulate(exchange, rate=1)
    async with connected(http, simulator, exchange) as reader:
        await reader.subscribe(simulator.venue.default_symbols[0])
        await reader.next(Subscribed)
        await reader.subscribe(*simulator.venue.default_symbols)
        refused = await reader.next(Refused)
        assert (refused.reason, refused.kind) == (words, Refusal.SUBSCRIBED)


@pytest.mark.parametrize(
    ("exchange", "words"),
    [("kraken", "Exceeded msg rate"), ("coinbase", "Failed to subscribe: Internal server error"),
     ("bybit", "Too many visits!"), ("okx", "60014: Requests too frequent")],
)  # fmt: skip
async def test_a_busy_exchange_refuses_as_often_as_configured(exchange, words, simulate, http, eventually):
    simulator = await simulate(exchange, rate=400)
    await begun(simulator, eventually, "busy=1")
    async with connected(http, simulator, exchange) as reader:
        await reader.subscribe(simulator.venue.default_symbols[0])
        refused = await reader.next(Refused, SequencedRecord)
        assert refused.reason.startswith(words)
        assert refused.kind is Refusal.BUSY
        await reader.subscribe(simulator.venue.default_symbols[0])
        assert isinstance(await reader.next(SequencedRecord), SequencedRecord)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("fault", ["unanswered=1", "undone=1"])
async def test_a_request_is_lost(fault, exchange, simulate, http, eventually):
    simulator = await simulate(exchange, rate=400)
    await begun(simulator, eventually, f"{fault},{simulator.venue.default_symbols[0]}")
    async with connected(http, simulator, exchange) as reader:
        await reader.subscribe(simulator.venue.default_symbols[0])
        if fault == "undone=1":
            assert isinstance(await reader.next(Subscribed, SequencedRecord), Subscribed)
        assert not [client.subscribed for client in (c.client for c in simulator._connections) if client.subscribed]
        await reader.subscribe(simulator.venue.default_symbols[0])
        assert isinstance(await reader.next(Subscribed), Subscribed)
        assert len(await reader.symbols(1.0)) == 1


async def test_answers_come_late(simulate, http, eventually):
    simulator = await simulate("bybit", rate=1)
    await begun(simulator, eventually, "late-answer=1s")
    async with connected(http, simulator, "bybit") as reader:
        await reader.subscribe("BTCUSDT")
        with pytest.raises(TimeoutError):
            await reader.next(Subscribed, within=0.7)
        assert isinstance(await reader.next(Subscribed), Subscribed)


@pytest.mark.parametrize(
    ("fault", "cure"),
    [("mute=2s,ETHUSDT", "time"), ("stuck=ETHUSDT", "subscribe"), ("frozen=ETHUSDT", "connect")],
)
async def test_one_symbol_is_silent_while_the_others_flow(fault, cure, simulate, http, eventually):
    simulator = await simulate("binance", rate=400)
    async with connected(http, simulator, "binance") as reader:
        await reader.subscribe("BTCUSDT", "ETHUSDT")
        await eventually(lambda: simulator.counts["frames"] > 20)
        await begun(simulator, eventually, fault)
        await reader.symbols(0.3)
        assert await reader.symbols(1.0) == {"BTCUSDT"}
        if cure != "time":
            await reader.subscribe("ETHUSDT", remove=True)
            await reader.subscribe("ETHUSDT")
        expected = {"BTCUSDT"} if cure == "connect" else {"BTCUSDT", "ETHUSDT"}
        assert await reader.symbols(2.5) == expected
    async with connected(http, simulator, "binance") as reader:
        await reader.subscribe("BTCUSDT", "ETHUSDT")
        assert await reader.symbols(2.5) == {"BTCUSDT", "ETHUSDT"}


async def test_a_fault_of_one_symbol_drops_only_its_trades(simulate, eventually):
    simulator = await simulate("binance", rate=2000)
    await begun(simulator, eventually, "drop=1000000,ETHUSDT")
    before = simulator.counts["dropped"]
    eth = len(simulator.history.trades.get("ETHUSDT", ()))
    await eventually(lambda: len(simulator.history.trades.get("ETHUSDT", ())) > eth + 50)
    dropped = simulator.counts["dropped"] - before
    assert dropped == len(simulator.history.trades["ETHUSDT"]) - eth


ENDS: dict[str, tuple[Callable[[str], bool], int | None]] = {
    "binance": (lambda words: words == "serverShutdown", None),
    "kraken": (lambda words: words.startswith("maintenance"), 1001),
    "bybit": (lambda words: words.startswith("maintenance"), None),
    "okx": (lambda words: words.startswith("64008"), None),
    "coinbase": (bool, 1001),  # it announces nothing
}


@pytest.mark.parametrize("exchange", ENDS)
async def test_a_restart_is_announced_as_the_exchange_does(exchange, simulate, http, eventually):
    simulator = await simulate(exchange, rate=1)
    said, code = ENDS[exchange]
    async with connected(http, simulator, exchange) as reader:
        await reader.subscribe(simulator.venue.default_symbols[0])
        await reader.next(Subscribed)
        notices = reader.adapter.notices
        listening = reader
        if notices.path:
            socket = await http.ws_connect(f"ws://127.0.0.1:{simulator.port}{notices.path}")
            listening = Reader(socket, reader.adapter)
            await socket.send_str(notices.messages[0])
            await listening.next(Subscribed)
        await begun(simulator, eventually, "shutdown=600ms")
        event = await listening.next(Closing)
        if exchange == "coinbase":
            assert (event.type, event.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            return
        assert said(event.reason)
        ended = await reader.next()
        assert ended.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        assert code is None or ended.data == code


@pytest.mark.parametrize("code", [1001, 1012])
async def test_connections_are_closed_with_a_code(code, simulate, http, eventually):
    simulator = await simulate("okx", rate=1)
    async with connected(http, simulator, "okx") as reader:
        await begun(simulator, eventually, f"close-code={code}")
        assert (await reader.next()).data == code


async def test_during_a_maintenance_no_connection_is_accepted(simulate, http, eventually):
    simulator = await simulate("kraken", rate=400)
    async with connected(http, simulator, "kraken") as reader:
        await begun(simulator, eventually, "maintenance=1s")
        assert (await reader.next()).data == 1001
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        async with connected(http, simulator, "kraken"):
            pass
    await asyncio.sleep(1.1)
    async with connected(http, simulator, "kraken") as reader:
        await reader.subscribe("BTC/USD")
        assert isinstance(await reader.next(SequencedRecord), SequencedRecord)


@pytest.mark.parametrize(
    ("exchange", "limit", "reason"),
    [
        ("binance", "1,symbols", "4: Too many subscriptions"),
        ("bybit", "1,arguments", "args size >10"),
        ("bybit", "20,characters", "args length exceeds the limit"),
        ("okx", "60,bytes", "60028: "),
        ("coinbase", "1,symbols", "Failed to subscribe: maximum number"),
    ],
)
async def test_a_limit_is_refused_in_the_exchanges_words(exchange, limit, reason, simulate, http, eventually):
    simulator = await simulate(exchange, rate=1)
    await begun(simulator, eventually, f"limit={limit}")
    async with connected(http, simulator, exchange) as reader:
        await reader.subscribe(*simulator.venue.default_symbols)
        refused = await reader.next(Refused)
        assert refused.reason.startswith(reason)
        assert refused.kind is Refusal.CAPACITY


async def test_a_request_that_is_too_long_is_ignored_by_binance(simulate, http, eventually):
    simulator = await simulate("binance", rate=1)
    await begun(simulator, eventually, "limit=60,bytes")
    async with connected(http, simulator, "binance") as reader:
        await reader.subscribe("BTCUSDT", "ETHUSDT")
        with pytest.raises(TimeoutError):
            await reader.next(Subscribed, Refused, within=1.0)


@pytest.mark.parametrize(("exchange", "status"), [("binance", 429), ("bybit", 403), ("okx", 429)])
async def test_an_address_opens_only_so_many_connections(exchange, status, simulate, http, eventually):
    simulator = await simulate(exchange, rate=1)
    await begun(simulator, eventually, "limit=2,connects")
    for _ in range(2):
        async with connected(http, simulator, exchange):
            pass
    with pytest.raises(aiohttp.WSServerHandshakeError, match=str(status)):
        async with connected(http, simulator, exchange):
            pass


async def test_okx_sends_fills_on_one_websocket_and_aggregates_on_another(simulate, http, eventually):
    simulator = await simulate("okx", symbols=["BTC-USDT"], rate=400)
    sockets = {}
    for path, channel in (("business", "trades-all"), ("public", "trades")):
        socket = sockets[channel] = await http.ws_connect(f"ws://127.0.0.1:{simulator.port}/ws/v5/{path}")
        for wrong in ("trades-all", "trades"):
            await socket.send_json({"op": "subscribe", "args": [{"channel": wrong, "instId": "BTC-USDT"}]})
    rows: dict[str, list[dict]] = {"trades-all": [], "trades": []}
    for channel, socket in sockets.items():
        events = []
        while len(rows[channel]) < 150:
            message = json.loads((await socket.receive(timeout=10)).data)
            events += [message["event"]] if "event" in message else []
            rows[channel] += message.get("data", [])
        assert sorted(events) == ["error", "subscribe"]
    fills = {int(row["tradeId"]): float(row["sz"]) for row in rows["trades-all"]}
    assert all("count" not in row for row in rows["trades-all"])
    assert max(int(row["count"]) for row in rows["trades"]) > 1
    for row in rows["trades"]:
        ids = range(int(row["tradeId"]) - int(row["count"]) + 1, int(row["tradeId"]) + 1)
        if all(number in fills for number in ids):
            assert float(row["sz"]) == pytest.approx(sum(fills[number] for number in ids))
