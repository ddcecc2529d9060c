"""How the REST APIs of simulated exchanges fail, refuse, lag and lie."""

import json

import aiohttp
import pytest

from k2.ingest.exchanges import adapter, rest_answers
from k2.ingest.exchanges.base import NO_ID, Gap, RestRefused
from k2.ingest.simulator.distortion import spoiled, with_extra_fields
from k2.ingest.simulator.faults import parse
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.market import Market
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES


async def begun(simulator, eventually, *faults: str) -> None:
    for fault in faults:
        simulator.inject(parse(fault))
    await eventually(lambda: not simulator._faults._scheduled)


async def asked(http, simulator, exchange: str, pages: int = 1) -> list[tuple[int, bytes, dict]]:
    """Answers to the request for the newest trade of the first symbol, as K2 sends it."""
    pair = pair_of(EXCHANGES[exchange], simulator.venue.default_symbols[0])
    request = adapter(exchange, TRADES, [pair]).snapshot_request(pair)
    answers = []
    for _ in range(pages):
        url = f"http://127.0.0.1:{simulator.port}{request.path}"
        async with http.get(url, params=request.params) as response:
            answers.append((response.status, await response.read(), dict(response.headers)))
    return answers


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_passing_errors_are_the_exchanges_own_and_none_is_final(exchange, simulate, http, eventually):
    simulator = await simulate(exchange, rate=100)
    simulator.venue.ban_after, count = 0, len(simulator.venue.passing_errors())
    simulator._rest.meter.capacity = 1e9
    await begun(simulator, eventually, f"passing={count}")
    for status, body, headers in await asked(http, simulator, exchange, count):
        with pytest.raises(RestRefused) as refused:
            rest_answers(exchange).check(body, status, headers.get("Retry-After"))
        assert refused.value.reason is None
    ((status, body, _),) = await asked(http, simulator, exchange)
    rest_answers(exchange).check(body, status)  # no error


async def test_the_faults_of_bodies_and_statuses(simulate, http, eventually):
    simulator = await simulate("binance", rate=100)
    await begun(simulator, eventually, "html=1", "status=451", "status=408,aggTrades", "cut-body=1,aggTrades")
    codes = [status for status, _, _ in await asked(http, simulator, "binance", 2)]
    assert sorted(codes) == [408, 451]
    ((status, body, headers),) = await asked(http, simulator, "binance")
    assert (status, body[:15], headers["Content-Type"]) == (200, b"<!DOCTYPE html>", "text/html")
    await eventually(lambda: simulator.history.trades.get("BTCUSDT"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await asked(http, simulator, "binance")
    assert isinstance(json.loads((await asked(http, simulator, "binance"))[0][1]), list)


async def test_binance_counts_weight_and_bans_who_does_not_stop(simulate, http, eventually):
    simulator = await simulate("binance", rate=100)
    simulator.venue.rest_window = 3600.0  # so that no minute ends meanwhile
    await begun(simulator, eventually, "limit=20,weight")
    answers = await asked(http, simulator, "binance", 20)
    assert [status for status, _, _ in answers] == [200] * 5 + [429] * 10 + [418] * 5
    assert [headers["X-MBX-USED-WEIGHT-1M"] for _, _, headers in answers[:5]] == ["4", "8", "12", "16", "20"]
    assert all(0 < int(headers["Retry-After"]) <= 3600 for _, _, headers in answers[5:15])
    assert "IP banned until" in answers[-1][1].decode()
    assert int(answers[-1][2]["Retry-After"]) in range(115, 121)


async def test_other_clients_of_the_address_use_weight(simulate, http, eventually):
    simulator = await simulate("binance", rate=100)
    simulator.venue.rest_window = 3600.0
    await begun(simulator, eventually, "weight=5990")
    answers = await asked(http, simulator, "binance", 3)
    assert [(status, headers["X-MBX-USED-WEIGHT-1M"]) for status, _, headers in answers] == [
        (200, "5994"), (200, "5998"), (429, "5998"),
    ]  # fmt: skip


async def test_bybit_bans_an_address_for_ten_minutes_and_a_ban_can_be_asked_for(simulate, http, eventually):
    simulator = await simulate("bybit", rate=100)
    await begun(simulator, eventually, "limit=2,weight")
    simulator.venue.rest_rate = 1e-6
    answers = await asked(http, simulator, "bybit", 4)
    assert [status for status, _, _ in answers] == [200, 200, 200, 403]
    assert json.loads(answers[2][1])["retCode"] == 10006
    with pytest.raises(RestRefused) as refused:
        rest_answers("bybit").check(answers[3][1], 403)
    assert (refused.value.retry_after, refused.value.pauses) == (600, True)
    other = await simulate("kraken", rate=100)
    await begun(other, eventually, "ban=10s")
    assert json.loads((await asked(http, other, "kraken"))[0][1]) == {"error": ["EGeneral:Temporary lockout"]}


def page_of(exchange: str, simulator, gap: Gap, reader):
    request = reader.history_request(gap)
    front, venue = simulator._rest, simulator.venue
    assert venue is not None
    reply = front.answer(request.path, dict(request.params), simulator._now, 1e9, simulator._elapsed)
    return reader.parse_page(request, reply.body, gap, 1)


LYING = sorted(set(EXCHANGES) - {"bybit"})  # the newest 60 of Bybit are a window, without ids


@pytest.mark.parametrize("exchange", LYING)
@pytest.mark.parametrize("fault", ["empty=1", "omit=1", "disorder=1", "other-symbol=1"])
async def test_a_page_lies_once(fault, exchange, simulate, eventually):
    simulator = await simulate(exchange, rate=3000, count=3000)
    await eventually(lambda: simulator.finished)
    raw_symbol = simulator.venue.default_symbols[0]
    pair = pair_of(EXCHANGES[exchange], raw_symbol)
    reader = adapter(exchange, TRADES, [pair])
    trades = simulator.history.trades[raw_symbol]
    first, last = trades[100], trades[139]
    gap = Gap(pair, first.id, last.id, trades[99].time, trades[140].time)
    truth = [trade.id for trade in trades[100:140]]
    await begun(simulator, eventually, fault)
    try:
        lie = page_of(exchange, simulator, gap, reader)
        ids = [item.last_id for item in lie.records]
        contents = {item.last_id: item.record.price for item in lie.records}
    except ValueError:
        ids, contents = [], {}
    exact = {trade.id: trade.price for trade in trades[100:140]}
    assert sorted(ids) != truth or ids not in (truth, truth[::-1]) or contents != exact
    assert simulator.counts["lies"] == 1
    page = page_of(exchange, simulator, gap, reader)
    assert sorted(item.last_id for item in page.records) == truth
    assert {item.last_id: item.record.price for item in page.records} == exact


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_rest_lags_behind_the_stream(exchange, simulate, http, eventually):
    simulator = await simulate(exchange, rate=500)
    raw_symbol = simulator.venue.default_symbols[0]
    await eventually(lambda: simulator.history.trades.get(raw_symbol))
    await begun(simulator, eventually, "lag=2h")
    pair = pair_of(EXCHANGES[exchange], raw_symbol)
    reader = adapter(exchange, TRADES, [pair])
    ((_, body, _),) = await asked(http, simulator, exchange)
    newest = reader.parse_newest(body)
    assert (newest.number, newest.time) == (NO_ID, 0)
    await begun(simulator, eventually, "lag=1ms")
    await eventually(lambda: len(simulator.history.trades[raw_symbol]) > 20)
    ((_, body, _),) = await asked(http, simulator, exchange)
    newest = reader.parse_newest(body)
    assert newest.number > 0 or newest.time > 0


async def test_phantom_ids_are_never_issued(simulate, eventually):
    simulator = await simulate("binance", rate=1000)
    await eventually(lambda: len(simulator.history.trades.get("ETHUSDT", ())) > 20)
    await begun(simulator, eventually, "phantom=3")
    count = len(simulator.history.trades["ETHUSDT"])
    await eventually(lambda: len(simulator.history.trades["ETHUSDT"]) > count + 20)
    ids = [trade.id for trade in simulator.history.trades["ETHUSDT"]]
    missing = sorted(set(range(ids[0], ids[-1])) - set(ids))
    assert len(missing) == 3
    assert missing == list(range(missing[0], missing[0] + 3))
    others = [trade.id for trade in simulator.history.trades["BTCUSDT"]]
    assert others == list(range(others[0], others[-1] + 1))


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("protocol", ["", "/"])
def test_one_trade_of_a_frame_is_spoiled_and_the_others_stay(exchange, protocol):
    if protocol and exchange != "kraken":
        pytest.skip("one protocol")
    venue = adapter_venue(exchange)
    spec = EXCHANGES[exchange]
    pair = pair_of(spec, spec.symbol_example)
    trades = list(Market(pair, "1", 100.0, 0).until(20_000_000))[:3]
    frames = list(venue.frames(trades, protocol))
    reader = adapter(exchange, TRADES, [pair], "wss://host#v1" if protocol else "")
    good = [event for frame in frames for event in reader.parse(frame.encode(), 1)]
    bad = list(reader.parse(spoiled(frames[0]).encode(), 1))
    kinds = [type(event).__name__ for event in bad]
    assert kinds.count("InvalidItem") == 1
    assert kinds.count("SequencedRecord") == len(good) // len(frames) - 1
    wide = [event for frame in frames for event in reader.parse(with_extra_fields(frame), 1)]
    assert wide == good


def adapter_venue(exchange: str):
    from k2.ingest.exchanges import venue

    spec = EXCHANGES[exchange]
    return venue(exchange)([pair_of(spec, spec.symbol_example)])
