"""The wait for a gap event's acknowledgement, which several tasks share."""

import asyncio

from tests.unit.ingest.test_dead_letters import Link, okx_frame, okx_item


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
