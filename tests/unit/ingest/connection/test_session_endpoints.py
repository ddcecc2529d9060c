"""Pings, endpoints and attempts of one shard, over real sockets."""

import asyncio
import dataclasses
import time

import pytest
from aiohttp import web

from k2.ingest.connection.session import AttemptsExhausted, Tuning
from k2.ingest.exchanges import rest_answers
from k2.ingest.exchanges.base import Limits, RestBudget
from k2.ingest.network.limits import AddressLimits
from k2.ingest.simulator.faults import parse

FAST = {"backoff_first": 0.05, "backoff_limit": 0.1}
NOBODY = "ws://127.0.0.1:1"


def url(simulator) -> str:
    return f"ws://127.0.0.1:{simulator.port}"


async def test_the_exchanges_pings_are_answered_with_their_own_payload(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=50)
    simulator.venue.ping_every = 0.2
    ingest = shard("binance", ["BTCUSDT"])
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: simulator.counts["pongs"] >= 2)
    assert simulator.counts["violations"] == 0
    assert ingest.stats.reconnects == 0


async def test_a_wrong_pong_does_not_end_a_connection_that_still_tells_trades(simulate, shard, eventually):
    simulator = await simulate("okx", symbols=["BTC-USDT"], rate=200, faults=["wrong-pong=60s"])
    ingest = shard("okx", ["BTC-USDT"])
    ingest.limits = dataclasses.replace(ingest.limits, ping_interval=0.2)
    ingest.start(url(simulator), tuning=Tuning(**FAST, stale_after=1.0))
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > 300)
    assert ingest.stats.reconnects == 0


async def test_answered_pings_keep_a_quiet_connection_and_unanswered_ones_do_not(simulate, shard, eventually):
    simulator = await simulate("okx", symbols=["BTC-USDT"], rate=200, faults=["quiet=60s"])
    ingest = shard("okx", ["BTC-USDT"])
    ingest.limits = dataclasses.replace(ingest.limits, ping_interval=0.2)
    ingest.start(url(simulator), tuning=Tuning(**FAST, stale_after=0.8))
    await eventually(lambda: ingest.stats.connections)
    await asyncio.sleep(1.5)
    assert ingest.stats.reconnects == 0
    simulator.inject(parse("wrong-pong=60s"))
    await eventually(lambda: ingest.stats.errors["connection_stale"] >= 1)


async def test_an_endpoint_that_does_not_answer_is_followed_by_the_next(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=200)
    ingest = shard("binance", ["BTCUSDT"])
    ingest.start(NOBODY, url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > 10)
    assert ingest.stats.endpoint == url(simulator)
    assert ingest.stats.errors["connect"] == 1


async def test_endpoints_are_taken_in_turn(simulate, shard, eventually):
    first, second = [await simulate("binance", symbols=["BTCUSDT"], rate=100) for _ in range(2)]
    ingest = shard("binance", ["BTCUSDT"])
    ingest.start(url(first), url(second), tuning=Tuning(**FAST), repair=False)
    paths_seen = []
    for simulator in (first, second, first):
        await eventually(lambda: ingest.connects == len(paths_seen) + 1)
        paths_seen.append(ingest.stats.endpoint)
        simulator.inject(parse("close"))
    assert paths_seen == [url(first), url(second), url(first)]


async def test_a_connection_that_is_refused_is_tried_again(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=200, faults=["refuse=2"])
    ingest = shard("binance", ["BTCUSDT"])
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > 10)
    assert ingest.stats.errors["connect"] == 2


async def test_the_attempts_end_when_nobody_answers(shard):
    ingest = shard("binance", ["BTCUSDT"])
    session = ingest.start(NOBODY, tuning=Tuning(max_attempts=3, **FAST))
    with pytest.raises(AttemptsExhausted, match=r"no data after 3 attempts; the last failed with ws://127\.0\.0\.1:1"):
        await session
    assert ingest.stats.errors["connect"] == 3
    assert "127.0.0.1:1" in ingest.stats.message


async def test_a_connection_without_data_counts_as_an_attempt(simulate, shard):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=1, faults=["silent=60s"])
    ingest = shard("binance", ["BTCUSDT"])
    session = ingest.start(url(simulator), tuning=Tuning(max_attempts=3, stale_after=0.2, **FAST))
    with pytest.raises(AttemptsExhausted, match="stale"):
        await session
    assert ingest.stats.reconnects == 3


async def test_without_a_limit_the_attempts_go_on(shard, eventually):
    ingest = shard("binance", ["BTCUSDT"])
    session = ingest.start(NOBODY, tuning=Tuning(backoff_first=0.001, backoff_limit=0.002))
    await eventually(lambda: ingest.stats.errors["connect"] > 20)
    assert not session.done()


async def test_planned_cuts_of_the_exchange_lose_nothing(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=200, faults=["cut=1s"])
    ingest = shard("binance", ["BTCUSDT"], f"http://127.0.0.1:{simulator.port}")
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: ingest.stats.reconnects >= 1 and ingest.stats.received["BTCUSDT"] > 200)
    await eventually(lambda: not ingest.stats.gaps_open)
    assert await ingest.stop() == 0
    ids = {int(record["trade_id"]) for record in ingest.stored()}
    assert len(ids) == max(ids) - min(ids) + 1


async def test_a_banned_handshake_is_waited_out_by_every_connection(serve, shard, eventually):
    times = []

    async def refuse(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.Response(status=429, headers={"Retry-After": "1"})

    app = web.Application()
    app.add_routes([web.get("/stream", refuse)])
    ingest = shard("binance", ["BTCUSDT", "ETHUSDT"])
    ingest.limits = dataclasses.replace(ingest.limits, symbols_per_connection=1)
    ingest.start(serve(app).replace("http", "ws"), tuning=Tuning(backoff_first=0.01, backoff_limit=0.02))
    await eventually(lambda: len(times) >= 5)
    assert all(later - earlier >= 0.9 for earlier, later in zip(times[1:], times[3:], strict=False))


async def test_a_forbidden_handshake_elsewhere_is_an_error_of_one_attempt(serve, shard, eventually):
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=403)

    app = web.Application()
    app.add_routes([web.get("/v2", refuse)])
    ingest = shard("kraken", ["BTC/USD"])
    ingest.start(serve(app).replace("http", "ws"), tuning=Tuning(backoff_first=0.01, backoff_limit=0.02))
    await eventually(lambda: ingest.stats.errors["connect"] >= 10)


async def test_a_connection_that_waits_for_its_turn_waits_out_a_ban_that_comes_meanwhile(serve, shard, eventually):
    times = []

    async def refuse(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.Response(status=429, headers={"Retry-After": "2"})

    app = web.Application()
    app.add_routes([web.get("/stream", refuse)])
    ingest = shard("binance", ["BTCUSDT", "ETHUSDT"])
    ingest.limits = dataclasses.replace(ingest.limits, symbols_per_connection=1)
    limits = Limits(connects=1, connects_period=0.5)
    ingest.address = AddressLimits(RestBudget(1000, 1000), limits, rest_answers("binance"))
    ingest.start(serve(app).replace("http", "ws"), tuning=Tuning(backoff_first=0.01, backoff_limit=0.02))
    await eventually(lambda: len(times) >= 2)
    assert times[1] - times[0] >= 1.9
