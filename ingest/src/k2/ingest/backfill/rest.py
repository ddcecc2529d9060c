"""GETs to one exchange's REST API, never faster than it allows."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

import aiohttp

from k2.common import logs
from k2.ingest.backfill.rate_limit import TokenBucket
from k2.ingest.exchanges.base import Request, RestBudget, RestRefused

log = logs.get("rest")

Answer = TypeVar("Answer")

_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, connect=5)
_MAX_BODY: Final = 16 << 20
_LIMITED: Final = frozenset({418, 429})  # Binance bans with 418 who goes on after 429
_DEFAULT_PENALTY: Final = 30.0
_ACCESS_TOO_FREQUENT: Final = 403  # Bybit: wait ten minutes
_BAN: Final = 600.0
_RETRIES: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


class RestUnreachable(ConnectionError):
    """The exchange's REST API did not answer."""


class RestClient:
    """One exchange's history, below `base`."""

    def __init__(self, http: aiohttp.ClientSession, base: str, budget: RestBudget) -> None:
        self._http = http
        self._base = base
        self._bucket = TokenBucket(budget, time.monotonic())

    async def ask(self, request: Request, read: Callable[[bytes], Answer]) -> Answer:
        """What `read` makes of the answer.

        Waits as long as the exchange wants. Raises `RestRefused` for an answer that asking again will not change,
        `RestUnreachable` after several failures, and what `read` raises.
        """
        failure: Exception | None = None
        for pause in (*_RETRIES, None):
            await asyncio.sleep(self._bucket.take(request.weight, time.monotonic()))
            try:
                return read(await self._get(request))
            except RestRefused as error:
                if error.retry_after is None:
                    raise
                self._bucket.back_off(error.retry_after, time.monotonic())
                log.warning("rate limited", path=request.path, seconds=error.retry_after)
                failure = error
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = error
                await asyncio.sleep(pause or 0)
        raise RestUnreachable(f"{self._base}{request.path}: {failure!r}")

    async def _get(self, request: Request) -> bytes:
        async with self._http.get(self._base + request.path, params=request.params, timeout=_TIMEOUT) as answer:
            body = await answer.content.read(_MAX_BODY)
            while not answer.content.at_eof():
                body += await answer.content.read(_MAX_BODY)
                if len(body) > _MAX_BODY:
                    raise RestRefused(f"an answer of more than {_MAX_BODY} bytes")
            if answer.status in _LIMITED:
                raise RestRefused(f"HTTP {answer.status}", retry_after=_seconds(answer.headers.get("Retry-After")))
            if answer.status == _ACCESS_TOO_FREQUENT:
                raise RestRefused(f"HTTP {answer.status}", retry_after=_BAN)
            if answer.status >= 500:
                raise aiohttp.ClientPayloadError(f"HTTP {answer.status}")
            if answer.status != 200:
                text = body[:200].decode(errors="replace")
                raise RestRefused(f"HTTP {answer.status}: {text}", unknown_symbol=answer.status in {400, 404})
        return body


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isascii() and header.isdigit() else _DEFAULT_PENALTY
