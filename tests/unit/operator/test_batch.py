"""Keys that are handed over together."""

import asyncio

from k2.operator.batch import Batch

ONE, TWO = ("market", "one"), ("market", "two")


async def test_what_is_added_meanwhile_is_handed_over_once():
    keys = asyncio.Queue()
    batch = Batch(0.01, 5.0, keys.put_nowait)
    batch.add([])
    batch.add([TWO])
    for _ in range(3):
        batch.add([ONE, TWO])
    assert keys.empty()
    async with asyncio.timeout(5):
        assert [await keys.get(), await keys.get()] == [ONE, TWO]
        batch.add([ONE])
        assert await keys.get() == ONE
    assert keys.empty()


async def test_keys_that_keep_coming_do_not_keep_the_others_waiting():
    keys = asyncio.Queue()
    batch = Batch(5.0, 0.05, keys.put_nowait)
    async with asyncio.timeout(4):
        while keys.empty():
            batch.add([ONE])
            await asyncio.sleep(0)
    assert keys.get_nowait() == ONE
