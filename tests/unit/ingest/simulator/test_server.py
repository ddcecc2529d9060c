"""The simulated exchange as a client sees it: its protocol, its faults, its own account."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from k2.ingest.exchanges.binance.parse import Binance
from k2.ingest.simulator.faults import parse
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES

BTC = pair_of(EXCHANGES["binance"], "BTCUSDT")
SUBSCRIBE = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}


@asynccontextmanager
async def subscribed(http, simulator, **options) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url = f"ws://127.0.0.1:{simulator.port}/stream"
    async with http.ws_connect(url, max_msg_size=4 << 20, **options) as socket:
        await socket.send_json(SUBSCRIBE)
        assert (await socket.receive_json(timeout=10)) == {"result": None, "id": 1}
        yield socket


async def trades(socket, count: int) -> list[dict]:
    messages = []
    while len(messages) < count:
        message = await socket.receive_json(timeout=10)
        if message.get("stream") == "btcusdt@trade":
            messages.append(message["data"])
    return messages


async def get(http, simulator, path: str) -> tuple[int, object]:
    async with http.get(f"http://127.0.0.1:{simulator.port}{path}") as answer:
        return answer.status, json.loads(await answer.text())


async def test_what_it_says_it_emitted_is_what_it_sent(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=2000, count=500)
    async with subscribed(http, simulator) as socket:
        messages = await trades(socket, 1)
        await eventually(lambda: simulator.finished)
        total = 500 - (messages[0]["t"] - 1_000_001)
        messages += await trades(socket, total - 1)
    _, emitted = await get(http, simulator, "/_sim/emitted")
    assert [str(trade["t"]) for trade in messages] == emitted["BTCUSDT"][-total:]
    assert len(emitted["BTCUSDT"]) == 500
    _, stats = await get(http, simulator, "/_sim/stats")
    assert (stats["emitted"], stats["frames"], stats["finished"]) == ({"BTCUSDT": 500}, total, True)


async def test_two_exchanges_of_one_seed_trade_the_same(simulate, eventually):
    first, second = [await simulate("binance", seed="9", rate=4000) for _ in range(2)]

    def both_have_traded() -> bool:
        lengths = [len(trades) for simulator in (first, second) for trades in simulator.history.trades.values()]
        return len(lengths) == 4 and min(lengths) > 50

    await eventually(both_have_traded)

    def facts(simulator):
        return {
            raw_symbol: [(trade.id, trade.price, trade.quantity, trade.buy) for trade in trades]
            for raw_symbol, trades in simulator.history.trades.items()
        }

    shorter = {
        raw_symbol: min(len(facts(first)[raw_symbol]), len(facts(second)[raw_symbol])) for raw_symbol in facts(first)
    }
    for raw_symbol, length in shorter.items():
        assert facts(first)[raw_symbol][:length] == facts(second)[raw_symbol][:length]


async def test_clients_receive_only_subscribed_symbols(simulate, http):
    simulator = await simulate("binance", rate=500)
    async with subscribed(http, simulator) as socket:
        assert {(await socket.receive_json(timeout=10))["data"]["s"] for _ in range(50)} == {"BTCUSDT"}


async def test_its_history_over_rest_pages_by_id(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=3000, count=2500)
    await eventually(lambda: simulator.finished)
    messages, first = [], 1_000_001
    for _ in range(3):
        status, rows = await get(http, simulator, f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={first}&limit=1000")
        assert status == 200
        messages += rows
        first = rows[-1]["id"] + 1
    assert [row["id"] for row in messages] == list(range(1_000_001, 1_002_501))
    assert await get(http, simulator, "/api/v3/historicalTrades?symbol=XYZUSDT") == (
        400, {"code": -1121, "msg": "Invalid symbol."},
    )  # fmt: skip


async def test_krakens_history_pages_by_time_and_loses_no_trade_of_a_burst(simulate, eventually):
    simulator = await simulate("kraken", symbols=["BTC/USD"], rate=5000, count=3000)
    await eventually(lambda: simulator.finished)
    messages, since = [], "1"
    for _ in range(40):
        answer = simulator.venue.rest("/0/public/Trades", {"pair": "XBTUSD", "since": since}, simulator.history, 0)
        result = json.loads(answer.body)["result"]
        messages += [row[6] for row in result["XXBTZUSD"]]
        since = str(int(result["last"]) - 1)
    assert sorted(set(messages)) == list(range(1_000_001, 1_003_001))


@pytest.mark.parametrize(("fault", "status"), [("ratelimit=2", 429), ("unavailable=2", 503)])
async def test_rest_fails_as_often_as_configured(fault, status, simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=10)
    simulator.inject(parse(fault))
    await eventually(lambda: not simulator._faults._scheduled)
    path = "/api/v3/aggTrades?symbol=BTCUSDT&limit=1"
    assert [(await get(http, simulator, path))[0] for _ in range(3)] == [status, status, 200]


async def test_a_client_that_asks_too_much_is_limited(simulate, http):
    simulator = await simulate("kraken", symbols=["BTC/USD"], rate=10)
    answers = [(await get(http, simulator, "/0/public/Trades?pair=XBTUSD"))[1] for _ in range(20)]
    assert {"error": ["EAPI:Rate limit exceeded"]} in answers
    assert answers[0]["error"] == []
    assert simulator.counts["limited"] == answers.count({"error": ["EAPI:Rate limit exceeded"]})


async def test_dropped_trades_are_history_but_not_sent(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=500)
    async with subscribed(http, simulator) as socket:
        before = (await trades(socket, 1))[0]["t"]
        simulator.inject(parse("drop=20"))
        await eventually(lambda: simulator.counts["dropped"] >= 20)
        ids = [before, *[trade["t"] for trade in await trades(socket, 200)]]
        assert set(range(before, ids[-1] + 1)) - set(ids)
        assert len(set(range(before, ids[-1] + 1)) - set(ids)) == simulator.counts["dropped"]
    emitted = [trade.id for trade in simulator.history.trades["BTCUSDT"]]
    assert emitted == list(range(emitted[0], emitted[-1] + 1))


async def test_a_repeat_sends_the_newest_trades_once_more(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=1000, count=300)
    async with subscribed(http, simulator) as socket:
        await eventually(lambda: simulator.finished)
        expected = simulator.counts["frames"]
        assert expected > 50
        await trades(socket, expected)
        simulator.inject(parse("repeat=50"))
        repeated = [trade["t"] for trade in await trades(socket, 50)]
    newest = simulator.history.trades["BTCUSDT"][-1].id
    assert repeated == list(range(newest - 49, newest + 1))


async def test_a_conflict_repeats_the_newest_id_at_another_price(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=1000, count=300)
    async with subscribed(http, simulator) as socket:
        await eventually(lambda: simulator.finished)
        last = (await trades(socket, simulator.counts["frames"]))[-1]
        simulator.inject(parse("conflict"))
        (wrong,) = await trades(socket, 1)
    assert (wrong["t"], wrong["q"]) == (last["t"], last["q"])
    assert wrong["p"] != last["p"]


async def test_a_reset_numbers_from_one(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=500)
    async with subscribed(http, simulator) as socket:
        await trades(socket, 5)
        simulator.inject(parse("reset"))
        await eventually(lambda: simulator.history.trades["BTCUSDT"][-1].id < 1000)
        ids = [trade["t"] for trade in await trades(socket, 100)]
    assert 1 in ids
    start = ids.index(1)
    assert ids[start:] == list(range(1, len(ids) - start + 1))


async def test_a_late_trade_lies_far_back(simulate, http):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=50)
    async with subscribed(http, simulator) as socket:
        first = (await trades(socket, 1))[0]
        simulator.inject(parse("late=2h"))
        times = [trade["T"] for trade in await trades(socket, 30)]
    assert min(times) <= first["T"] - 7_000_000


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [("close", {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}), ("cut=100ms", {aiohttp.WSMsgType.CLOSE})],
)
async def test_connections_are_cut_and_accepted_again(fault, kinds, simulate, http):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=100)
    async with subscribed(http, simulator, autoclose=False) as socket:
        simulator.inject(parse(fault))
        message = await socket.receive(timeout=10)
        while message.type is aiohttp.WSMsgType.TEXT:
            message = await socket.receive(timeout=10)
        assert message.type in kinds
        assert socket.close_code in {1006, 1001, None}
    async with subscribed(http, simulator) as again:
        assert await trades(again, 1)


async def test_a_shutdown_is_announced_first(simulate, http):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=10)
    async with subscribed(http, simulator) as socket:
        simulator.inject(parse("shutdown"))
        message = {}
        while message.get("stream") != "!serverShutdown":
            message = await socket.receive_json(timeout=10)
        assert message["data"]["e"] == "serverShutdown"


async def test_silence_sends_nothing_and_quiet_only_heartbeats(simulate, http):
    simulator = await simulate("kraken", symbols=["BTC/USD"], rate=500, faults=["quiet=60s"])
    async with http.ws_connect(f"ws://127.0.0.1:{simulator.port}/v2") as socket:
        ask = {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": False}}
        await socket.send_json(ask)
        kinds = [(await socket.receive_json(timeout=10)) for _ in range(4)]
        assert [kind.get("channel", kind.get("method")) for kind in kinds] == [
            "status",
            "subscribe",
            "heartbeat",
            "heartbeat",
        ]
        simulator.inject(parse("silent=60s"))
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=1.3)


async def test_refused_connections_are_as_many_as_asked_for(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=10)
    simulator.inject(parse("refuse=2"))
    await eventually(lambda: not simulator._faults._scheduled)
    for _ in range(2):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            async with subscribed(http, simulator):
                pass
    async with subscribed(http, simulator) as socket:
        assert await trades(socket, 1)


async def test_malformed_frames_are_sent_to_every_client(simulate, http):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=100)
    async with subscribed(http, simulator) as socket:
        for fault in ("malformed=10", "unknown=1", "oversized=1"):
            simulator.inject(parse(fault))
        texts: list[str] = []
        while not texts or len(texts[-1]) < 1 << 20:
            texts.append((await socket.receive(timeout=10)).data)
    assert "not json" in texts
    assert any("somethingNew" in text for text in texts)


async def test_a_wrong_pong_is_not_what_was_sent(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=0.001)
    async with subscribed(http, simulator, autoping=False) as socket:
        await socket.ping(b"one")
        assert (await socket.receive(timeout=10)).data == b"one"
        simulator.inject(parse("wrong-pong=60s"))
        await eventually(lambda: not simulator._faults._scheduled)
        await socket.ping(b"two")
        assert (await socket.receive(timeout=10)).data == b"wrong"


async def test_a_client_that_sends_too_often_is_closed(simulate, http):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=0.001)
    async with subscribed(http, simulator) as socket:
        with suppress(aiohttp.ClientError, ConnectionError):  # it may be closed before the last is sent
            for number in range(1_000):  # however slow the machine, some of them come within a second
                await socket.send_json(SUBSCRIBE | {"id": number})
        message = await socket.receive(timeout=10)
        while message.type is aiohttp.WSMsgType.TEXT:
            message = await socket.receive(timeout=10)
        assert socket.close_code == 1008
    assert simulator.counts["violations"] == 1


async def test_a_wrong_answer_to_a_ping_is_a_violation(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=0.001)
    simulator.venue.ping_every = 0.1
    async with subscribed(http, simulator, autoping=False) as socket:
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.PING
        await socket.pong(b"something else")
        await socket.receive(timeout=10)
        assert socket.close_code == 1008
    assert simulator.counts["violations"] == 1


async def test_faults_can_be_asked_for_over_http(simulate, http, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=500)
    url = f"http://127.0.0.1:{simulator.port}/_sim/faults"
    async with http.post(url, data="drop=5") as answer:
        assert answer.status == 200
    await eventually(lambda: simulator.counts["dropped"] >= 5)
    async with http.post(url, data="explode") as answer:
        assert (answer.status, await answer.text()) == (400, (await answer.text()))
        assert "is no fault; known are" in await answer.text()


async def test_a_websocket_on_another_path_gets_the_valid_paths(simulate, http):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=1)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
        async with http.ws_connect(f"ws://127.0.0.1:{simulator.port}/ws"):
            pass


async def test_a_recording_is_replayed_frame_by_frame(simulate, http, captures):
    from k2.ingest.exchanges.base import SequencedRecord
    from k2.ingest.simulator.capture import frames

    path = captures / "binance_spot_btcusdt.gz"
    binance = Binance([BTC])
    recorded = [
        raw.decode()
        for _, raw in frames(path)
        if b'@trade"' in raw and isinstance(binance.parse(raw, 0)[0], SequencedRecord)
    ]
    simulator = await simulate("binance", symbols=["BTCUSDT"], captures=[path], speed=0)
    async with subscribed(http, simulator) as socket:
        expected = [(await socket.receive(timeout=10)).data for _ in recorded]
    assert expected == recorded
    assert len(expected) == 9757
    assert simulator.finished
