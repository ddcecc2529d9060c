"""The instrument lists and clocks of simulated exchanges, in the exchanges' own formats."""

import gzip
import json
import time
from pathlib import Path

import pytest

from k2.ingest.simulator.faults import parse
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import UnknownPair

# Where an exchange lists its instruments and tells the time; symbol, base and quote of a row; its time in seconds.
LISTS = {
    "binance": "/api/v3/exchangeInfo",
    "kraken": "/0/public/AssetPairs",
    "coinbase": "/products",
    "bybit": "/v5/market/instruments-info?category=spot",
    "okx": "/api/v5/public/instruments?instType=SPOT",
}
ROWS = {
    "binance": lambda body: {row["symbol"]: row for row in body["symbols"]},
    "kraken": lambda body: {row["wsname"]: row for row in body["result"].values() if "wsname" in row},
    "coinbase": lambda body: {row["id"]: row for row in body},
    "bybit": lambda body: {row["symbol"]: row for row in body["result"]["list"]},
    "okx": lambda body: {row["instId"]: row for row in body["data"]},
}
STATES = {"binance": "status", "kraken": "status", "coinbase": "trading_disabled", "bybit": "status", "okx": "state"}
CLOCKS = {
    "binance": ("/api/v3/time", lambda body: body["serverTime"] / 1e3),
    "kraken": ("/0/public/Time", lambda body: body["result"]["unixtime"]),
    "coinbase": ("/time", lambda body: body["epoch"]),
    "bybit": ("/v5/market/time", lambda body: int(body["result"]["timeNano"]) / 1e9),
    "okx": ("/api/v5/public/time", lambda body: int(body["data"][0]["ts"]) / 1e3),
}
RECORDED = {"binance": "binance.gz", "kraken": "kraken.gz", "coinbase": "coinbase.gz", "okx": "okx.gz"}
# Fields that the recordings of 2021 and 2022 have and that K2's venues leave out: fees, order types, sizes of orders.
OMITTED = {"icebergAllowed", "ocoAllowed", "quoteOrderQtyMarketAllowed", "baseCommissionPrecision",
    "quoteCommissionPrecision", "base_min_size", "base_max_size", "max_market_funds", "maxIcebergSz", "maxStopSz",
    "maxTriggerSz", "maxTwapSz"}  # fmt: skip


async def answer(http, simulator, path: str):
    async with http.get(f"http://127.0.0.1:{simulator.port}{path}") as response:
        assert response.status == 200
        return json.loads(await response.text())


async def listed(http, simulator, exchange: str) -> dict[str, dict]:
    return ROWS[exchange](await answer(http, simulator, LISTS[exchange]))


def first_recorded(path: Path):
    with gzip.open(path, "rt") as lines:
        return json.loads(next(lines).split(": ", 1)[1])


@pytest.mark.parametrize("exchange", RECORDED)
async def test_a_list_has_the_fields_of_a_recorded_one(exchange, simulate, http, captures):
    simulator = await simulate(exchange, rate=1)
    rows = list((await listed(http, simulator, exchange)).values())
    recorded = list(ROWS[exchange](first_recorded(captures / "instruments" / RECORDED[exchange])).values())
    assert len(rows) == 2
    missing = recorded[0].keys() - rows[0].keys() - OMITTED
    assert missing == set()
    assert {key: type(recorded[0][key]) for key in recorded[0].keys() & rows[0].keys()} == {
        key: type(rows[0][key]) for key in recorded[0].keys() & rows[0].keys()
    }


async def test_krakens_names_are_those_of_the_recorded_list(simulate, http, captures):
    recorded = first_recorded(captures / "instruments" / "kraken.gz")["result"]
    expected = {row["wsname"]: (key, row["base"], row["quote"]) for key, row in recorded.items() if "wsname" in row}
    symbols = ["BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD", "ETH/BTC", "BTC/USDT", "AAVE/ETH", "XRP/EUR"]
    simulator = await simulate("kraken", symbols=symbols, rate=1)
    document = (await answer(http, simulator, LISTS["kraken"]))["result"]
    names = {row["wsname"]: (key, row["base"], row["quote"]) for key, row in document.items()}
    common = names.keys() & expected.keys()
    assert len(common) >= 6
    assert {name: names[name] for name in common} == {name: expected[name] for name in common}
    assert names["SOL/USD"] == ("SOLUSD", "SOL", "ZUSD")


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_list_changes_at_run_time(exchange, simulate, http, eventually):
    simulator = await simulate(exchange, rate=500)
    staying, gone = simulator.venue.default_symbols
    before = await listed(http, simulator, exchange)
    simulator.inject(parse("halt"))  # the last symbol, if none is named
    await eventually(lambda: not simulator._faults._scheduled)
    halted = await listed(http, simulator, exchange)
    spelled = staying.replace("BTC/", "XBT/")
    assert halted[spelled] == before[spelled]
    assert gone not in halted or halted[gone][STATES[exchange]] != before[gone][STATES[exchange]]
    last = len(simulator.history.trades.get(gone, ()))
    simulator.inject(parse(f"list={gone}"))
    await eventually(lambda: len(simulator.history.trades.get(gone, ())) > last)
    assert (await listed(http, simulator, exchange))[gone][STATES[exchange]] == before[gone][STATES[exchange]]
    simulator.inject(parse(f"delist={gone}"))
    simulator.inject(parse("list"))
    await eventually(lambda: not simulator._faults._scheduled)
    after = await listed(http, simulator, exchange)
    assert simulator.venue.new_symbol in after
    assert gone not in after or after[gone][STATES[exchange]] != before[gone][STATES[exchange]]
    await eventually(lambda: simulator.venue.new_symbol in simulator.history.trades)


async def test_a_halted_symbol_trades_no_more_and_goes_on_where_it_stopped(simulate, eventually):
    simulator = await simulate("binance", rate=1000)
    await eventually(lambda: len(simulator.history.trades.get("ETHUSDT", ())) > 50)
    simulator.inject(parse("halt=ETHUSDT"))
    await eventually(lambda: not simulator._faults._scheduled)
    stopped = simulator.history.trades["ETHUSDT"][-1].id
    others = len(simulator.history.trades["BTCUSDT"])
    await eventually(lambda: len(simulator.history.trades["BTCUSDT"]) > others + 100)
    assert simulator.history.trades["ETHUSDT"][-1].id == stopped
    simulator.inject(parse("list=ETHUSDT"))
    await eventually(lambda: simulator.history.trades["ETHUSDT"][-1].id > stopped)
    ids = [trade.id for trade in simulator.history.trades["ETHUSDT"]]
    assert ids == list(range(ids[0], ids[-1] + 1))


async def test_a_symbol_can_be_listed_with_the_assets_that_it_does_not_spell(simulate, http, eventually):
    simulator = await simulate("kraken", symbols=["AAPLx/USD:AAPLx:USD"], rate=1)
    (row,) = (await listed(http, simulator, "kraken")).values()
    assert (row["wsname"], row["base"], row["quote"]) == ("AAPLx/USD", "AAPLx", "ZUSD")
    with pytest.raises(UnknownPair):
        simulator.inject(parse("list=AAPLxUSD"))
    async with http.post(f"http://127.0.0.1:{simulator.port}/_sim/faults", data="list=AAPLx") as refused:
        assert refused.status == 400
    with pytest.raises(UnknownPair, match="SYMBOL:BASE:QUOTE"):
        pair_of(EXCHANGES["kraken"], "AAPLx/USD:AAPLx")


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("offset", ["7s", "-90s"])
async def test_a_clock_is_off_by_what_the_fault_says(exchange, offset, simulate, http, eventually):
    simulator = await simulate(exchange, rate=500)
    path, read = CLOCKS[exchange]
    assert abs(read(await answer(http, simulator, path)) - time.time()) < 2
    simulator.inject(parse(f"clock={offset}"))
    await eventually(lambda: simulator.clock_offset)
    seconds = float(offset[:-1])
    assert abs(read(await answer(http, simulator, path)) - time.time() - seconds) < 2
    newest = await eventually(lambda: simulator.history.trades.get(simulator.venue.default_symbols[0]))
    count = len(newest)
    await eventually(lambda: len(newest) > count + 5)
    assert abs(newest[-1].time / 1e6 - time.time() - seconds) < 2  # its trades are of that clock too
