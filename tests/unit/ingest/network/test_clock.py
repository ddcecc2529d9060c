"""The clock is compared with the exchange's, and what was received with a wrong one says so."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.connection.session import Tuning
from k2.ingest.exchanges import adapter, clock, rest_answers
from k2.ingest.exchanges.base import MalformedFrame, RestRefused
from k2.ingest.network import clock as network_clock
from k2.ingest.network.client import open_client
from k2.ingest.network.clock import ClockOffset, follow, measure, offset
from k2.ingest.network.limits import AddressLimits
from k2.ingest.simulator.faults import parse
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES

DOCUMENTED = {
    "binance": b'{"serverTime":1688639403423}',
    "bybit": b'{"retCode":0,"result":{"timeSecond":"1688639403","timeNano":"1688639403423213947"}}',
    "coinbase": b'{"iso":"2023-07-06T10:30:03.423Z","epoch":1688639403.423}',
    "kraken": b'{"error":[],"result":{"unixtime":1688639403,"rfc1123":"Thu, 06 Jul 23 10:30:03 +0000"}}',
    "okx": b'{"code":"0","msg":"","data":[{"ts":"1688639403423"}]}',
}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_documented_answer_of_each_exchange_is_read(exchange):
    source = clock(exchange)
    assert 0 <= 1688639403_423213 - source.read(DOCUMENTED[exchange]) <= max(source.resolution, 0.001) * 1e6


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"serverTime":"x"}', b'{"serverTime":0}', b'{"serverTime":1e300}',
     b'{"result":{"unixtime":-1,"timeNano":"NaN"}}', b'{"epoch":null}', b'{"data":[]}', b'{"serverTime":Infinity}'],
)  # fmt: skip
def test_an_answer_without_a_time_is_malformed(exchange, body):
    with pytest.raises((MalformedFrame, RestRefused)):
        clock(exchange).read(body)


def test_an_error_in_the_exchanges_words_is_its_refusal():
    with pytest.raises(RestRefused, match="Too Many"):
        clock("okx").read(b'{"code":"50011","msg":"Too Many Requests","data":[]}')


@given(
    st.floats(-100, 100),
    st.floats(0, 20),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.001, 1.0]),
    st.integers(10**9, 2 * 10**9),
)
def test_the_error_bounds_the_offset_wherever_the_exchange_read_its_clock(true, elapsed, share, resolution, start):
    """The exchange reads its clock at some share of the way; whatever that is, the truth lies within the error."""
    shown = start + elapsed * share - true
    exchange = int((shown - shown % resolution if resolution else shown) * 1e6)
    measured = offset(start + elapsed, elapsed, exchange, resolution)
    assert abs(measured.seconds - true) <= measured.error + 1e-3
    assert not measured.wrong or abs(true) > 1.0 - 1e-3


def test_a_slow_answer_is_no_proof():
    assert not ClockOffset(1.4, 0.5).wrong
    assert ClockOffset(-1.6, 0.5).wrong
    assert not ClockOffset(0.9, 0.0).wrong


def rest(http, exchange: str, port: int) -> RestClient:
    protocol = adapter(exchange, TRADES, ())
    limits = AddressLimits(protocol.rest_budget, protocol.limits)
    return RestClient(http, f"http://127.0.0.1:{port}", limits, rest_answers(exchange))


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_simulated_exchange_whose_clock_is_behind_shows_this_one_ahead(exchange, simulate):
    simulator = await simulate(exchange, rate=1)
    async with open_client() as http:
        client = rest(http, exchange, simulator.port)
        good = await measure(clock(exchange), client)
        assert not good.wrong
        assert abs(good.seconds) < 0.7
        simulator.inject(parse("clock=-5s"))
        await asyncio.sleep(0.2)
        ahead = await measure(clock(exchange), client)
    assert ahead.wrong
    assert ahead.seconds == pytest.approx(5, abs=0.7)


async def test_it_is_compared_at_start_and_again_later_and_failures_change_nothing(simulate, eventually, monkeypatch):
    monkeypatch.setattr(network_clock, "_INTERVAL", 0.05)
    monkeypatch.setattr(network_clock, "_RETRY", 0.05)
    simulator = await simulate("binance", rate=1)
    reported = []
    async with open_client() as http:
        client = rest(http, "binance", simulator.port)
        task = asyncio.create_task(follow(clock("binance"), client, reported.append))
        await eventually(lambda: reported and not reported[-1].wrong)
        simulator.inject(parse("clock=3s"))
        await eventually(lambda: reported[-1].wrong and reported[-1].seconds < -2.5)
        port, client._base = client._base, "http://127.0.0.1:1"
        await asyncio.sleep(0.3)
        before = len(reported)
        await asyncio.sleep(0.3)
        assert len(reported) == before
        client._base = port
        await eventually(lambda: len(reported) > before)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        client._base = "http://127.0.0.1:1"
        with pytest.raises(RestUnreachable):
            await measure(clock("binance"), client)


async def test_records_of_a_wrong_clock_say_so(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=100)
    ingest = shard("binance", ["BTCUSDT"], f"http://127.0.0.1:{simulator.port}")
    ingest.publisher.clock_offset = -1500
    ingest.start(f"ws://127.0.0.1:{simulator.port}", tuning=Tuning(backoff_first=0.05, backoff_limit=0.1))
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > 20)
    ingest.publisher.clock_offset = 0
    count = ingest.stats.received["BTCUSDT"]
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > count + 20)
    assert await ingest.stop() == 0
    notes = [
        avro.decode(each.value()[5:])["vendor_data"].get("clock_offset_ms")
        for each in ingest.broker.read(ingest.names.records)
    ]
    assert notes[0] == "-1500"
    assert notes[-1] is None
