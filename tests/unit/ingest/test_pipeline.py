"""The wait for a gap event's acknowledgement, which several tasks share."""

import asyncio
from types import SimpleNamespace

from tests.unit.ingest.test_dead_letters import Link, bybit_frame, bybit_item, okx_frame, okx_item


async def test_a_waiter_that_is_cancelled_does_not_end_the_wait_of_others(shard):
    ingest = shard("okx", ["BTC-USDT"])
    link = Link("okx")
    ingest.pipeline.handle(okx_frame(okx_item(10)), 1, link)
    ingest.pipeline.handle(okx_frame(okx_item(15)), 1, link)
    first, second = (asyncio.create_task(ingest.pipeline.settle()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.sleep(0)
    assert not second.done()
    assert ingest.publisher.sent == 2  # the record after the gap waits for the gap event
    await ingest.publisher.close(10)
    await second
    assert await ingest.stop() == 0
    assert [record["trade_id"] for record in ingest.stored()] == ["10", "15"]


async def test_a_frame_that_waits_does_not_hide_that_its_connection_was_lost_after_it(shard):
    ingest = shard("bybit", ["BTCUSDT", "ETHUSDT"])
    link = SimpleNamespace(adapter=ingest.adapter, unseen=set())
    delivery = asyncio.create_task(ingest.publisher.run())

    def receive(number: int, symbol: str) -> None:
        ingest.pipeline.handle(bybit_frame(bybit_item(number, s=symbol)), 1, link)

    receive(0, "BTCUSDT")
    receive(1, "ETHUSDT")
    ingest.pipeline.interrupt(["BTCUSDT"])
    receive(2, "BTCUSDT")  # ends a window: what follows waits for its gap event
    receive(3, "ETHUSDT")
    ingest.pipeline.interrupt(["ETHUSDT"])
    await ingest.pipeline.settle()
    receive(4, "ETHUSDT")
    await ingest.pipeline.settle()
    delivery.cancel()
    assert await ingest.stop() == 0
    windows = sorted((event.symbol, event.last_id) for event in ingest.gap_events())  # with the record before each
    assert windows == [("BTCUSDT", "id0"), ("ETHUSDT", "id3")]
