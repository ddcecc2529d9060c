"""What clients have not read: in order, in bounded memory and on bounded disk, and given up when others wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from k2.query.api.delivery.backlog import Backlog, TooSlow, Unread

_MB = 1_000_000


@asynccontextmanager
async def adding(unread: Unread, parts: int) -> AsyncIterator["asyncio.Task[None]"]:
    """Add parts of 4 MB, each of its own number, in a task."""

    async def add() -> None:
        for number in range(parts):
            await unread.add([bytes([number]) * (3 * _MB), bytes([number]) * _MB])
        await unread.complete()

    task = asyncio.ensure_future(add())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_result_within_the_limits_is_kept_and_read_later_in_order() -> None:
    backlog = Backlog(400 * _MB)
    with closing(Unread(backlog, lambda: True)) as unread:
        async with adding(unread, 25) as task:
            await asyncio.wait_for(task, 60)
            assert (backlog.in_memory, backlog.on_disk) == (16 * _MB, 84 * _MB)
            read = bytearray()
            async for piece in unread.take():
                read += piece
            assert backlog.in_memory == backlog.on_disk == 0
    assert read == b"".join(bytes([number]) * (4 * _MB) for number in range(25))


async def test_a_result_beyond_the_limits_waits_for_its_client() -> None:
    backlog = Backlog(100 * _MB)
    with closing(Unread(backlog, lambda: False)) as unread:
        async with adding(unread, 25) as task:
            await asyncio.sleep(1)
            assert (backlog.in_memory, backlog.on_disk, task.done()) == (16 * _MB, 24 * _MB, False)
            read = 0
            async for piece in unread.take():
                read += len(piece)
                assert backlog.in_memory <= 16 * _MB
                assert backlog.on_disk <= 25 * _MB
            await asyncio.wait_for(task, 60)
    assert read == 100 * _MB
    assert backlog.in_memory == backlog.on_disk == 0


async def test_a_part_beyond_all_limits_is_handed_over_and_keeps_the_slot_until_it_was_read() -> None:
    backlog = Backlog(0)
    with closing(Unread(backlog, lambda: False)) as unread:
        await unread.add([b"x" * (20 * _MB)])
        completing = asyncio.ensure_future(unread.complete())
        await asyncio.sleep(0.6)
        assert not completing.done()
        assert sum([len(piece) async for piece in unread.take()]) == 20 * _MB
        await asyncio.wait_for(completing, 60)
    assert backlog.in_memory == 0


async def test_a_client_that_reads_too_slowly_is_given_up_only_while_others_wait() -> None:
    waiting = False
    with closing(Unread(Backlog(0), lambda: waiting, patience=0.5)) as unread:
        async with adding(unread, 25) as task:
            await asyncio.sleep(2)
            assert not task.done()
            waiting = True
            with pytest.raises(TooSlow):
                await asyncio.wait_for(task, 60)


async def test_an_error_takes_the_place_of_what_is_left() -> None:
    with closing(Unread(Backlog(0), lambda: False)) as unread:
        await unread.add([b"x"])
        unread.fail(ValueError("broken"))
        with pytest.raises(ValueError, match="broken"):
            await anext(unread.take())


async def test_a_disk_that_is_full_or_read_only_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/self/absent")
    backlog = Backlog(400 * _MB)
    with closing(Unread(backlog, lambda: False)) as unread:
        async with adding(unread, 25) as task:
            await asyncio.sleep(0.5)
            assert (backlog.on_disk, task.done()) == (0, False)
            assert sum([len(piece) async for piece in unread.take()]) == 100 * _MB
            await asyncio.wait_for(task, 60)
