"""Two connections to one exchange and a repair over REST: each trade once, with the volume that was traded."""

import asyncio

import pytest

from k2.ingest.connection.session import Tuning
from k2.ingest.simulator.faults import parse

TUNING = Tuning(backoff_first=0.05, backoff_limit=0.1)


@pytest.mark.parametrize(
    ("exchange", "raw_symbol"),
    [("okx", "BTC-USDT"), ("binance", "BTCUSDT"), ("kraken", "BTC/USD"), ("coinbase", "BTC-USD")],
)
async def test_two_connections_and_a_repair_show_the_volume_that_was_traded(
    exchange, raw_symbol, simulate, shard, eventually
):
    simulator = await simulate(exchange, symbols=[raw_symbol], rate=400)
    address = f"127.0.0.1:{simulator.port}"
    both = [shard(exchange, [raw_symbol], f"http://{address}") for _ in range(2)]
    for ingest in both:
        ingest.start(f"ws://{address}", tuning=TUNING)
    await eventually(lambda: all(sum(ingest.stats.received.values()) > 100 for ingest in both))
    simulator.inject(parse("drop=20"))
    await eventually(lambda: all(ingest.stats.sources["backfill"] >= 20 for ingest in both))
    simulator.inject(parse("close"))
    await eventually(lambda: all(ingest.stats.reconnects for ingest in both))
    await eventually(lambda: all(ingest.stats.gaps_open == 0 for ingest in both))
    assert await asyncio.gather(*(ingest.stop() for ingest in both)) == [0, 0]
    assert not any(ingest.stats.dead_letters for ingest in both)

    stored = both[0].stored()
    contents = {(record["message_id"], record["price"], record["quantity"], record["side"]) for record in stored}
    by_id = {record["message_id"]: record for record in stored}
    assert len(contents) == len(by_id) < len(stored)  # every id has one content, though most came twice
    numbers = {int(record["trade_id"]) for record in by_id.values()}
    traded = [trade for trade in simulator.history.trades[raw_symbol] if min(numbers) <= trade.id <= max(numbers)]
    assert {trade.id for trade in traded} == numbers
    volume = sum(record["quantity"] for record in by_id.values())
    assert int(volume * 10**12) == sum(trade.quantity for trade in traded)
