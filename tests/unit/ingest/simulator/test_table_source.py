"""Trades replayed as the exchange: its own adapter reads them back with the ids, values and times that they had."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
import pytest

from k2.ingest.exchanges import adapter, venue
from k2.ingest.exchanges.base import MalformedFrame, SequencedRecord
from k2.ingest.simulator.server import Simulator
from k2.ingest.simulator.table_source import NotReplayable, TableSource
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Trade

NATIVE = {"binance": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD", "bybit": "BTCUSDT", "okx": "BTC-USDT"}
NOON = 1_769_860_800_000_000
VENDOR = {"okx": (("count", "3"), ("source", "live"))}


def pair(exchange: str) -> Pair:
    return EXCHANGES[exchange].pair(NATIVE[exchange])


def trade(exchange: str, trade_id: int | str, at: int = 0) -> Trade:
    btc = pair(exchange)
    return Trade(
        str(trade_id), btc.symbol, exchange.upper(), btc.base, btc.quote, NOON + at * 1000, 6_183_763_000_000,
        2_000_000, Side.SELL, NOON + at * 1000 + 5000, VENDOR.get(exchange, (("source", "live"),)),
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
        for message in reader.subscribe_messages():
            await socket.send_str(message.decode())
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
    # Two at one time and price: an exchange that aggregates must not make one of them.
    ids = ["2290000000061666327", "2290000000061666329"] if exchange == "bybit" else [3, 6]
    trades = [trade(exchange, number, 7 if place else 0) for place, number in enumerate([*ids, 9, 12])]
    received = await replayed(exchange, trades, http)
    assert [facts(one) for one in received] == [facts(one) for one in trades]
    if exchange == "okx":
        assert {dict(one.vendor_data)["count"] for one in received} == {"3"}


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


def test_bybits_ids_need_not_be_numbers():
    source = TableSource([trade("bybit", "9a-b")], [pair("bybit")], 0)
    (((sim_trade,), _),) = list(source.until(0))
    assert venue("bybit")([pair("bybit")]).trade_id(sim_trade) == "9a-b"
