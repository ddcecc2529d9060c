"""Limits on concurrent requests and queries."""

import asyncio
from typing import Any

import pytest
from fastapi import HTTPException

from k2.query.api.limits import QueryLimiter, RequestLimitMiddleware
from k2.query.api.settings import ApiSettings


async def status_of(app: RequestLimitMiddleware, path: str) -> int:
    """Return the status of the response."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "path": path, "method": "GET", "headers": []}, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(("open_path", "status"), [("/v1/stream", 200), ("/v1/trades", 503)])
async def test_a_stream_does_not_count_as_a_request(open_path: str, status: int) -> None:
    ended = asyncio.Event()

    async def app(scope: Any, _: Any, send: Any) -> None:
        if scope["path"] == open_path:
            await ended.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    limits = RequestLimitMiddleware(app, ApiSettings(max_requests=1))
    first = asyncio.ensure_future(status_of(limits, open_path))
    await asyncio.sleep(0)
    assert await status_of(limits, "/v1/symbols") == status
    assert await status_of(limits, "/healthz") == 200
    ended.set()
    assert await first == 200


async def test_a_client_queues_behind_its_own_queries_and_leaves_limiter_to_others() -> None:
    limiter = QueryLimiter(8, ApiSettings(max_queries_per_client=2))
    ended = asyncio.Event()

    async def query(client: str) -> None:
        async with limiter.acquire(client):
            await ended.wait()

    greedy = [asyncio.ensure_future(query("greedy")) for _ in range(8)]
    await asyncio.sleep(0.01)
    assert (limiter.running, limiter.queued) == (2, 6)
    with pytest.raises(HTTPException) as refused:
        await query("greedy")
    assert refused.value.status_code == 429
    modest = asyncio.ensure_future(query("modest"))
    await asyncio.sleep(0.01)
    assert (limiter.running, limiter.queued) == (3, 6)
    ended.set()
    await asyncio.wait_for(asyncio.gather(*greedy, modest), 5)
    assert (limiter.running, limiter.queued) == (0, 0)


async def test_a_query_that_queues_too_long_gets_503() -> None:
    limiter = QueryLimiter(1, ApiSettings(max_queries_per_client=1, query_timeout=0.05))
    async with limiter.acquire("a"):
        for client in ("a", "b"):
            with pytest.raises(HTTPException) as refused:
                async with limiter.acquire(client):
                    pytest.fail("there was no free slot")
            assert refused.value.status_code == 503
        assert (limiter.running, limiter.queued) == (1, 0)


async def test_a_cancelled_query_leaves_the_queue() -> None:
    limiter = QueryLimiter(1, ApiSettings(max_queries_per_client=1))

    async def query() -> None:
        async with limiter.acquire("b"):
            assert limiter.running == 1

    async with limiter.acquire("a"):
        first, second = (asyncio.ensure_future(query()) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (limiter.running, limiter.queued) == (1, 1)
    await asyncio.wait_for(second, 5)
