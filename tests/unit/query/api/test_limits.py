"""Who counts as a request at work."""

import asyncio
from typing import Any

import pytest

from k2.query.api.errors import Refused
from k2.query.api.limits import Limits, Slots
from k2.query.api.settings import ApiSettings


async def asked(app: Limits, path: str) -> int:
    """The status of an answer."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "path": path, "method": "GET", "headers": []}, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(("lasting", "status"), [("/v1/stream", 200), ("/v1/trades", 503)])
async def test_a_stream_takes_no_place_from_requests(lasting: str, status: int) -> None:
    ended = asyncio.Event()

    async def app(scope: Any, _: Any, send: Any) -> None:
        if scope["path"] == lasting:
            await ended.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    limits = Limits(app, ApiSettings(requests=1))
    first = asyncio.ensure_future(asked(limits, lasting))
    await asyncio.sleep(0)
    assert await asked(limits, "/v1/symbols") == status
    assert await asked(limits, "/healthz") == 200
    ended.set()
    assert await first == 200


async def test_one_caller_waits_for_its_own_and_leaves_places_to_others() -> None:
    slots = Slots(8, ApiSettings(queries_each=2))
    ended = asyncio.Event()

    async def query(caller: str) -> None:
        async with slots.held(caller):
            await ended.wait()

    greedy = [asyncio.ensure_future(query("greedy")) for _ in range(8)]
    await asyncio.sleep(0.01)
    assert (slots.running, slots.waiting) == (2, 6)
    with pytest.raises(Refused) as refused:
        await query("greedy")
    assert refused.value.status == 429
    modest = asyncio.ensure_future(query("modest"))
    await asyncio.sleep(0.01)
    assert (slots.running, slots.waiting) == (3, 6)
    ended.set()
    await asyncio.wait_for(asyncio.gather(*greedy, modest), 5)
    assert (slots.running, slots.waiting) == (0, 0)


async def test_who_waits_too_long_is_told_so() -> None:
    slots = Slots(1, ApiSettings(queries_each=1, seconds=0.05))
    async with slots.held("a"):
        for caller in ("a", "b"):
            with pytest.raises(Refused) as refused:
                async with slots.held(caller):
                    pytest.fail("there was no place")
            assert refused.value.status == 503
        assert (slots.running, slots.waiting) == (1, 0)


async def test_who_goes_away_leaves_its_place_in_line_to_the_next() -> None:
    slots = Slots(1, ApiSettings(queries_each=1))

    async def query() -> None:
        async with slots.held("b"):
            assert slots.running == 1

    async with slots.held("a"):
        first, second = (asyncio.ensure_future(query()) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (slots.running, slots.waiting) == (1, 1)
    await asyncio.wait_for(second, 5)
