"""Trades replayed as the exchange: its own adapter reads them back with the ids, values and times that they had."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import aiohttp
import pytest

from k2.ingest.exchanges import adapter, venue
from k2.ingest.exchanges.base import NO_ID, Gap, MalformedFrame, SequencedRecord
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.server import Simulator
from k2.ingest.simulator.table_source import NotReplayable, TableSource, sim_trade
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Trade

NATIVE = {"binance": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD", "bybit": "BTCUSDT", "okx": "BTC-USDT"}
NOON = 1_769_860_800_000_000


def pair(exchange: str) -> Pair:
    return pair_of(EXCHANGES[exchange], NATIVE[exchange])


def trade(exchange: str, trade_id: int | str, at: int = 0) -> Trade:
    btc = pair(exchange)
    return Trade(
        str(trade_id), btc.symbol, exchange.upper(), btc.base, btc.quote, NOON + at * 1000, 61_837_630_000_000_000,
        20_000_000_000, Side.SELL, NOON + at * 1000 + 5000, (("source", "live"),),
    )  # fmt: skip


async def replayed(
    exchange: str,
    trades: Sequence[Trade],
    http: aiohttp.ClientSession,
    speed: float = 0,
    listens: Callable[[TableSource], Awaitable[None]] | None = None,
) -> list[Trade]:
    """What the exchange's adapter makes of the replay. The client reads nothing before `listens` is done."""
    source = TableSource(iter(trades), [pair(exchange)], speed)
    simulator = Simulator(venue(exchange)([pair(exchange)]), source)
    port = await simulator.start()
    reader, received = adapter(exchange, TRADES, [pair(exchange)]), list[Trade]()
    async with http.ws_connect(f"ws://127.0.0.1:{port}{reader.path or '/'}") as socket, asyncio.timeout(120):
        await socket.send_str(reader.subscribe([pair(exchange)], 1).decode())
        if listens:
            await listens(source)
        while len(received) < len(trades):
            try:
                events = reader.parse((await socket.receive_str()).encode(), NOON)
            except MalformedFrame:
                continue
            received += [event.record for event in events if isinstance(event, SequencedRecord)]
    await simulator.stop()
    return received


async def standstill(source: TableSource) -> None:
    """Until the tape tells nothing more, though it is not at its end."""
    before = -1
    while source.emitted > before or not source.emitted:
        before = source.emitted
        await asyncio.sleep(1.0)
    assert not source.finished


def facts(trade: Trade) -> tuple[object, ...]:
    return trade.message_id, trade.symbol, trade.timestamp, trade.price, trade.quantity, trade.side


@pytest.mark.parametrize("exchange", NATIVE)
async def test_the_exchanges_own_adapter_reads_the_same_trades(exchange: str, http: aiohttp.ClientSession):
    # Two at one time and price: they are two trades.
    ids = ["2290000000061666327", "2290000000061666329"] if exchange == "bybit" else [3, 6]
    trades = [trade(exchange, number, 7 if place else 0) for place, number in enumerate([*ids, 9, 12])]
    received = await replayed(exchange, trades, http)
    assert [facts(one) for one in received] == [facts(one) for one in trades]


async def test_a_replay_keeps_its_pace_times_its_speed(http: aiohttp.ClientSession):
    loop = asyncio.get_running_loop()
    source = TableSource([trade("binance", 1), trade("binance", 2, 3000)], [pair("binance")], 10.0)
    source.open(0)
    assert [sim_trade.id for batch, _ in source.until(299_999) for sim_trade in batch] == [1]
    assert [sim_trade.id for batch, _ in source.until(300_000) for sim_trade in batch] == [2]
    assert source.finished
    began = loop.time()
    await replayed("binance", [trade("binance", 1), trade("binance", 2, 5000)], http, 10.0)
    assert loop.time() - began >= 0.5


async def test_a_replay_as_fast_as_can_be_waits_for_a_slow_listener(http: aiohttp.ClientSession):
    count = 200_000  # more than the server's queue for a client and the sockets hold
    trades = [trade("binance", number, number) for number in range(1, count + 1)]
    assert [one.trade_id for one in await replayed("binance", trades, http, listens=standstill)] == [
        one.trade_id for one in trades
    ]


def test_a_trade_without_an_id_of_the_exchanges_own_is_refused_with_a_way_out():
    with pytest.raises(
        NotReplayable, match=r"trade KRAKEN-1-ab of BTCUSD has no id assigned by KRAKEN.*topic or a file"
    ):
        TableSource([trade("kraken", "KRAKEN-1-ab")], [pair("kraken")], 1.0)


def test_a_trade_of_the_second_listing_is_one_in_the_history_too():
    source = TableSource([trade("binance", 1).in_listing(2)], [pair("binance")], 0)
    (((replayed_trade,), _),) = list(source.until(0))
    assert (replayed_trade.id, replayed_trade.listing) == (1, 2)


def test_prices_go_over_the_wire_with_the_exchanges_decimals_and_none_is_cut():
    btc, reader = pair("binance"), adapter("binance", TRADES, [pair("binance")])
    tiny = replace(sim_trade(trade("binance", 1), {"BTCUSDT": btc}), price=1_234, quantity=10**24)
    whole = replace(tiny, price=60_000 * 10**12)
    frames = list(venue("binance")([btc]).frames([tiny, whole]))
    assert '"p":"0.000000001234","q":"1000000000000.00000000"' in frames[0]
    assert '"p":"60000.00000000"' in frames[1]
    assert [reader.parse(frame.encode(), 1)[0].record.price for frame in frames] == [1_234, 60_000 * 10**12]


@pytest.mark.parametrize("exchange", NATIVE)
def test_every_exchange_sends_twelve_decimals_over_both_ways_exactly(exchange: str):
    symbol, reader = pair(exchange), adapter(exchange, TRADES, [pair(exchange)])
    one = replace(sim_trade(trade(exchange, "5"), {symbol.symbol: symbol}), price=1_234, quantity=10**24 + 1)
    simulated, history = venue(exchange)([symbol]), History()
    history.add(one)
    (frame,) = simulated.frames([one])
    first = 5 if reader.has_sequence else NO_ID
    gap = Gap(symbol, first, first, one.time - 1, one.time + 1)
    request = reader.history_request(gap)
    page = reader.parse_page(request, simulated.rest(request.path, dict(request.params), history, 0).body, gap, 1)
    records = [reader.parse(frame.encode(), 1)[0].record, page.records[0].record]
    assert [(record.price, record.quantity) for record in records] == [(1_234, 10**24 + 1)] * 2


def test_bybits_ids_need_not_be_numbers():
    source = TableSource([trade("bybit", "9a-b")], [pair("bybit")], 0)
    (((replayed_trade,), _),) = list(source.until(0))
    assert venue("bybit")([pair("bybit")]).trade_id(replayed_trade) == "9a-b"
