"""Gaps repaired over REST, pauses kept, and gaps given up with their reason."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from aiohttp import web

from k2.common import tracing
from k2.ingest.backfill.policy import Policy
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges import rest_answers
from k2.ingest.exchanges.answers import ALL_TRANSIENT
from k2.ingest.exchanges.base import NO_ID, Gap, Limits, MalformedFrame, Request, RestBudget, RestRefused
from k2.ingest.network.client import open_client
from k2.ingest.network.limits import AddressLimits
from k2.ingest.simulator.faults import parse
from tests.otlp_receiver import attributes, traced

RATE = RestBudget(1000, 1000)
NO_LIMITS = Limits()


async def repaired(ingest, simulator, eventually, gap: Gap, policy: Policy | None = None):
    """What became of one gap: the last event's state and resolution."""
    if policy:
        ingest.repairer._policy = policy
    ingest.tracker.reopen(gap)
    opened = ingest.ledger.open(gap)
    tasks = [asyncio.create_task(part) for part in (ingest.publisher.run(), ingest.repairer.run())]
    await opened
    await eventually(lambda: not ingest.stats.gaps_open, 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await ingest.publisher.close(10) == 0
    last = ingest.gap_events()[-1]
    return last.state, last.resolution


@pytest.fixture
async def market(simulate, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=5000, count=1500)
    await eventually(lambda: simulator.finished)
    return simulator


@pytest.fixture
def ingest(market, shard):
    return shard("binance", ["BTCUSDT"], f"http://127.0.0.1:{market.port}")


def gap(pair, first: int = 1_000_010, last: int = 1_001_200, until: int = 10**6) -> Gap:
    return Gap(pair, first, last, 0, until)


async def test_a_gap_of_more_than_a_page_is_repaired_whole(ingest, market, eventually, pair):
    assert await repaired(ingest, market, eventually, gap(pair)) == ("repaired", "rest")
    stored = ingest.stored()
    assert sorted(int(record["trade_id"]) for record in stored) == list(range(1_000_010, 1_001_201))
    assert {record["vendor_data"]["source"] for record in stored} == {"backfill"}
    assert ingest.stats.sources["backfill"] == len(stored)


async def test_a_repair_is_one_span(ingest, market, eventually, pair, monkeypatch):
    with traced(monkeypatch, "ingest") as traces:
        assert await repaired(ingest, market, eventually, gap(pair)) == ("repaired", "rest")
        await asyncio.to_thread(tracing.shutdown)
    ((service, span),) = traces.spans
    assert (service, span.name) == ("k2-ingest", "repair")
    assert attributes(span) == {"k2.symbol": "BTCUSDT", "k2.first_id": "1000010", "k2.last_id": "1001200"}


async def test_a_rate_limit_is_waited_out(ingest, market, eventually, pair):
    market.inject(parse("ratelimit=1"))
    await eventually(lambda: not market._faults._scheduled)
    began = time.monotonic()
    assert await repaired(ingest, market, eventually, gap(pair, last=1_000_020)) == ("repaired", "rest")
    assert time.monotonic() - began >= 0.9  # Retry-After: 1


@pytest.mark.usefixtures("no_waits")
async def test_a_server_error_is_asked_again(ingest, market, eventually, pair):
    market.inject(parse("unavailable=1"))
    await eventually(lambda: not market._faults._scheduled)
    assert await repaired(ingest, market, eventually, gap(pair, last=1_000_020)) == ("repaired", "rest")


async def test_ids_that_the_exchange_does_not_have_yet_are_waited_for(ingest, market, eventually, pair):
    lagging = gap(pair, 1_001_496, 1_001_510)
    ingest.tracker.reopen(lagging)
    ingest.ledger.open(lagging)
    tasks = [asyncio.create_task(part) for part in (ingest.publisher.run(), ingest.repairer.run())]
    await eventually(lambda: ingest.stats.sources["backfill"] == 5)
    await eventually(lambda: market.counts["rest"] >= 2)
    assert ingest.tracker.missing(lagging) == ((1_001_501, 1_001_510),)
    assert ingest.stats.gaps_open == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("policy", "resolution"),
    [
        (Policy(enabled=False, max_age=1e12), "backfill is disabled"),
        (Policy(enabled=True, max_age=3600), "older than spec.ingest.backfill.maxAge"),
        (Policy(enabled=True, max_age=1e12, max_ids=1190), "more ids than spec.ingest.backfill.maxIds"),
    ],
)
async def test_a_gap_that_may_not_be_repaired_is_given_up_with_the_reason(
    policy, resolution, ingest, market, eventually, pair
):
    assert await repaired(ingest, market, eventually, gap(pair), policy) == ("unrecoverable", resolution)
    assert ingest.stored() == []
    assert market.counts["rest"] == 0


async def test_a_snapshot_finds_a_gap_at_the_end_without_a_trade_after_it(
    ingest, market, eventually, pair, observed, monkeypatch
):
    monkeypatch.setattr(ingest.adapter, "limits", Limits(snapshot_delay=0.05))
    ingest.tracker.observe(pair, observed(1_001_490))
    polling = asyncio.create_task(ingest.publisher.run())
    await ingest.snapshots.request_all(SimpleNamespace(adapter=ingest.adapter, pairs=ingest.pairs))
    polling.cancel()
    await eventually(lambda: ingest.stats.gaps_detected["BTCUSDT"] == 1)
    missing = ingest.ledger.repairs.get_nowait()
    assert (missing.first_id, missing.last_id) == (1_001_491, 1_001_500)


async def test_a_window_that_the_history_does_not_reach_is_given_up(simulate, shard, eventually):
    simulator = await simulate("bybit", symbols=["BTCUSDT"], rate=5000, count=500)
    await eventually(lambda: simulator.finished)
    ingest = shard("bybit", ["BTCUSDT"], f"http://127.0.0.1:{simulator.port}")
    trades = simulator.history.trades["BTCUSDT"]
    window = Gap(ingest.pairs[0], NO_ID, NO_ID, trades[0].time - 10**9, trades[-1].time, "gone")
    state, resolution = await repaired(ingest, simulator, eventually, window)
    assert (state, resolution) == ("unrecoverable", "overlap: the history began after the gap")


async def test_a_window_whose_last_trade_is_still_in_the_history_is_closed(simulate, shard, eventually):
    simulator = await simulate("bybit", symbols=["BTCUSDT"], rate=5000, count=500)
    await eventually(lambda: simulator.finished)
    ingest = shard("bybit", ["BTCUSDT"], f"http://127.0.0.1:{simulator.port}")
    trades = simulator.history.trades["BTCUSDT"]
    anchor = simulator.venue.trade_id(trades[-20])
    window = Gap(ingest.pairs[0], NO_ID, NO_ID, trades[-20].time, trades[-1].time, anchor)
    assert await repaired(ingest, simulator, eventually, window) == ("repaired", "overlap")
    assert {record["trade_id"] for record in ingest.stored()} >= {
        simulator.venue.trade_id(trade) for trade in trades[-19:]
    }


def answering(*answers: tuple[int, bytes]) -> web.Application:
    """A server that gives these answers in turn, the last for ever."""
    left = list(answers)

    async def answer(_: web.Request) -> web.Response:
        status, body = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, body=body, headers={"Retry-After": "0"} if status in {418, 429} else {})

    app = web.Application()
    app.add_routes([web.get("/x", answer)])
    return app


async def asked(url: str, read=bytes.decode, answers=ALL_TRANSIENT):
    async with open_client() as http:
        return await RestClient(http, url, AddressLimits(RATE, NO_LIMITS), answers).fetch(Request("/x", {}), read)


@pytest.mark.parametrize("status", [429, 418, 500, 503])
@pytest.mark.usefixtures("no_waits")
async def test_a_passing_refusal_is_asked_again(status, serve):
    assert await asked(serve(answering((status, b""), (status, b""), (200, b"yes")))) == "yes"


@pytest.mark.usefixtures("no_waits")
async def test_a_server_that_stays_down_is_unreachable(serve):
    with pytest.raises(RestUnreachable, match="HTTP 503"):
        await asked(serve(answering((503, b""))))
    with pytest.raises(RestUnreachable, match="HTTP 429"):
        await asked(serve(answering(*[(429, b"")] * 8, (200, b"too late"))))
    assert await asked(serve(answering(*[(503, b"")] * 7, (200, b"the eighth")))) == "the eighth"
    with pytest.raises(RestUnreachable, match=r"http://127\.0\.0\.1:1/x"):
        await asked("http://127.0.0.1:1")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 451, 520])
@pytest.mark.usefixtures("no_waits")
async def test_an_error_that_no_table_lists_is_asked_again(status, serve):
    assert await asked(serve(answering((status, b"no such thing"), (200, b"yes")))) == "yes"


async def test_a_final_error_keeps_the_exchanges_message(serve):
    body = b'{"code":-1121,"msg":"Invalid symbol."}'
    with pytest.raises(RestRefused, match="HTTP 400: -1121: Invalid symbol") as refusal:
        await asked(serve(answering((400, body))), answers=rest_answers("binance"))
    assert refusal.value.unknown_symbol


async def test_what_the_reader_raises_is_not_asked_again(serve):
    def read(body: bytes) -> None:
        raise MalformedFrame("no")

    with pytest.raises(MalformedFrame):
        await asked(serve(answering((200, b"{"))), read)


@pytest.mark.usefixtures("no_waits")
async def test_an_answer_without_end_is_not_read(serve, monkeypatch):
    monkeypatch.setattr("k2.ingest.network.client._MAX_BODY", 1000)
    with pytest.raises(RestUnreachable, match="larger than 1000 bytes"):
        await asked(serve(answering((200, b"x" * 5000))))
