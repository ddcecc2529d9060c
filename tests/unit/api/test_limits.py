"""Who counts as a request at work."""

import asyncio
from typing import Any

import pytest

from k2.query.api.limits import Limits
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
