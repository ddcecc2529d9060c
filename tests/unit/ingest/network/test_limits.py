"""What a process may ask of an exchange: its share of the address, the exchange's own counter, and bans."""

import asyncio

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges import adapter, rest_answers
from k2.ingest.exchanges.base import Limits, Request, RestBudget, RestRefused
from k2.ingest.network.client import open_client
from k2.ingest.network.limits import AddressLimits
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES

BUDGET = RestBudget(rate=70, burst=1500, limit=6000, period=60, counter="X-MBX-USED-WEIGHT-1M")
PLENTY = RestBudget(1000, 1000)


def spent(limits: list[AddressLimits], weight: float, until: float) -> float:
    """The most that these processes send in a time, each of them as fast as it may."""
    total = 0.0
    for each in limits:
        while each.request(weight, 0.0) <= until:
            total += weight
    return total


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("processes", [1, 2, 7, 40])
def test_burst_and_rate_of_all_processes_stay_below_what_the_exchange_allows(exchange, processes):
    budget = adapter(exchange, TRADES, []).rest_budget
    limits = [AddressLimits(budget, Limits(), processes=processes) for _ in range(processes)]
    if budget.limit:
        assert spent(limits, 1.0, budget.period) <= budget.limit
    assert spent(limits, 1.0, 60.0) <= budget.burst + 60 * budget.rate + 1e-6


def test_connections_are_divided_too():
    limits = Limits(connects=100, connects_period=300.0)
    shared = AddressLimits(BUDGET, limits, processes=4)
    assert [shared.connect(0.0) for _ in range(26)] == [0.0] * 25 + [300.0]
    crowded = AddressLimits(BUDGET, limits, processes=200)
    assert [crowded.connect(0.0) for _ in range(3)] == [0.0, 600.0, 1200.0]
    assert AddressLimits(BUDGET, Limits(), processes=200).connect(0.0) == 0.0


def test_a_changed_number_of_processes_counts_at_once():
    limits = AddressLimits(RestBudget(rate=10, burst=10), Limits())
    assert [limits.request(5, 0.0) for _ in range(3)] == [0, 0, 0.5]
    limits.divide(5)
    assert limits.processes == 5
    assert limits.request(2, 0.0) == pytest.approx(0.5 + 1.0)  # the wait that was begun keeps its length
    limits.divide(0)
    assert limits.processes == 1


@given(st.lists(st.tuples(st.floats(0.1, 25), st.floats(0, 5)), max_size=30), st.integers(1, 5), st.floats(0, 5000))
def test_the_exchanges_counter_only_takes_away(requests, processes, others):
    """Whatever others have used: after the reply, what this process may still send fits into what is left."""
    limits, now, own = AddressLimits(BUDGET, Limits(), processes=processes), 0.0, 0.0
    for weight, pause in requests:
        now += pause + limits.request(weight, now + pause)
        own += weight
        used = min(6000.0, own + others)
        if now < 60:
            limits.used(str(int(used)), now, now)
            left = (6000 - int(used)) / processes
            sent = 0.0
            while now + limits.request(1.0, now) <= 60.0 and sent <= left:
                sent += 1.0
            assert sent <= max(left, 0.0) + 1.0
            return


@pytest.mark.parametrize("header", [None, "", "many", "-5", "\u0665"])
def test_a_counter_that_is_none_changes_nothing(header):
    limits = AddressLimits(BUDGET, Limits())
    limits.used(header, 0.0, 0.0)
    assert limits.request(1500, 0.0) == 0.0


def test_own_use_is_not_taken_twice():
    limits = AddressLimits(BUDGET, Limits())
    for second in range(60):
        assert limits.request(70, float(second)) == 0.0
        limits.used(str(70 * (second + 1)), float(second), 120.0 + second)
    assert limits.request(1000, 60.0) == 0.0


def test_the_counter_starts_again_with_the_minute_of_utc():
    limits = AddressLimits(BUDGET, Limits())
    limits.used("5900", 0.0, 60 * 100 + 59.0)  # a second is left: 70 more will be earned in it
    assert limits.request(30, 0.0) == 0.0
    assert limits.request(70, 0.0) == pytest.approx(1.0)


def serving(*replies: tuple[int, dict[str, str]]) -> tuple[web.Application, list[float]]:
    """A server with these replies in turn, the last for ever, and when it was asked."""
    left, times = list(replies), list[float]()

    async def answer(_: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        status, headers = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, headers=headers, text="answer")

    app = web.Application()
    app.add_routes([web.get("/x", answer)])
    return app, times


def client(http, url: str, exchange: str, budget: RestBudget = PLENTY) -> RestClient:
    answers = rest_answers(exchange)
    return RestClient(http, url, AddressLimits(budget, Limits(), answers), answers)


async def test_a_403_of_binance_holds_back_every_request_also_one_that_waited(serve, eventually):
    app, times = serving((403, {"Retry-After": "1"}), (200, {}))
    async with open_client() as http:
        rest = client(http, serve(app), "binance", RestBudget(rate=20, burst=1))
        waiting = [asyncio.create_task(rest.fetch_once(Request("/x", {}), bytes)) for _ in range(3)]
        await eventually(waiting[0].done)
        assert rest._limits.connects_banned(asyncio.get_running_loop().time()) > 0.5
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], RestRefused)
    assert results[1:] == [b"answer"] * 2
    assert times[1] - times[0] >= 0.95


@pytest.mark.parametrize("exchange", ["kraken", "coinbase", "okx", "bybit"])
async def test_a_403_elsewhere_is_an_error_of_its_request(exchange, serve):
    app, times = serving((403, {}), (200, {}))
    async with open_client() as http:
        rest = client(http, serve(app), exchange)
        with pytest.raises(RestRefused, match="HTTP 403"):
            await rest.fetch_once(Request("/x", {}), bytes)
        assert await rest.fetch_once(Request("/x", {}), bytes) == b"answer"
    assert times[1] - times[0] < 0.5


async def test_the_counter_of_a_refusal_counts_as_well(serve):
    app, _ = serving((429, {"X-MBX-USED-WEIGHT-1M": "5999", "Retry-After": "0"}), (200, {}))
    async with open_client() as http:
        rest = client(http, serve(app), "binance", BUDGET)
        with pytest.raises(RestRefused, match="HTTP 429"):
            await rest.fetch_once(Request("/x", {}), bytes)
        assert rest._limits.request(1400, asyncio.get_running_loop().time()) > 0


def test_a_ban_of_binances_firewall_holds_back_websockets_and_a_429_does_not():
    answers = rest_answers("binance")
    limits = AddressLimits(BUDGET, Limits(), answers)
    for status, connects in ((429, 0.0), (418, 0.0), (403, 300.0)):
        with pytest.raises(RestRefused) as refused:
            answers.check(b"<html></html>", status)
        limits.forbid(refused.value.retry_after, 0.0, connects=refused.value.stops_connects)
        assert limits.connects_banned(0.0) == connects
    assert limits.connect(10.0) == 290.0
    assert limits.banned(10.0) == 290.0


def test_a_refused_handshake_holds_back_all_connections_where_the_exchange_says_so():
    binance = AddressLimits(BUDGET, Limits(), rest_answers("binance"))
    assert binance.handshake_refused(429, "7", 100.0)
    assert (binance.connects_banned(100.0), binance.banned(100.0)) == (7.0, 0.0)
    assert binance.handshake_refused(403, None, 100.0)
    assert binance.connect(100.0) == 300.0
    kraken = AddressLimits(BUDGET, Limits(), rest_answers("kraken"))
    assert not kraken.handshake_refused(403, "7", 100.0)
    assert not kraken.handshake_refused(503, None, 100.0)
    assert kraken.connect(100.0) == 0.0


@pytest.mark.usefixtures("no_waits")
async def test_retries_wait_for_the_end_of_a_ban(serve):
    app, times = serving((418, {"Retry-After": "1"}), (200, {}))
    async with open_client() as http:
        assert await client(http, serve(app), "binance").fetch(Request("/x", {}), bytes) == b"answer"
        with pytest.raises(RestUnreachable):
            await client(http, "http://127.0.0.1:1", "binance").fetch(Request("/x", {}), bytes)
    assert times[1] - times[0] >= 0.95
