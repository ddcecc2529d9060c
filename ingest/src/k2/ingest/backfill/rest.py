"""The REST client of one exchange, limited to its rate limit."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import aiohttp

from k2.common import logs
from k2.common.retry import AsyncRetryingCaller
from k2.ingest.backfill.rate_limit import TokenBucket
from k2.ingest.exchanges.base import Request, RestBudget, RestRefused

log = logs.get("rest")

Result = TypeVar("Result")

_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, connect=5)
_MAX_BODY: Final = 16 << 20
_LIMITED: Final = frozenset({418, 429})  # 418: banned, after requests that followed a 429
_DEFAULT_PENALTY: Final = 30.0
_ACCESS_TOO_FREQUENT: Final = 403  # the address is banned for ten minutes
_BAN: Final = 600.0
_FAILURES: Final = (aiohttp.ClientError, TimeoutError)
_retrying: Final = AsyncRetryingCaller(attempts=8, timeout=None, wait_initial=0.5, wait_max=30.0)


class RestUnreachable(ConnectionError):
    """The exchange's REST API did not answer."""


class RestClient:
    """Request an exchange's history below the URL `base`."""

    def __init__(self, http: aiohttp.ClientSession, base: str, budget: RestBudget) -> None:
        self._http = http
        self._base = base
        self._bucket = TokenBucket(budget, time.monotonic())

    async def fetch(self, request: Request, read: Callable[[bytes], Result]) -> Result:
        """Send a request and return what `read` makes of the body.

        Waits as long as the exchange demands. Raises `RestRefused` for an error that a retry cannot change,
        `RestUnreachable` after several failed attempts, and whatever `read` raises.
        """

        async def attempt() -> Result:
            await asyncio.sleep(self._bucket.take(request.weight, time.monotonic()))
            return read(await self._get(request))

        try:
            return await _retrying(partial(self._backoff, request.path), attempt)
        except (RestRefused, *_FAILURES) as error:
            if isinstance(error, RestRefused) and error.retry_after is None:
                raise
            raise RestUnreachable(f"{self._base}{request.path}: {error!r}") from error

    def _backoff(self, path: str, error: Exception) -> bool | float:
        """Return whether to retry after `error`, or the seconds to wait before that."""
        if not isinstance(error, RestRefused):
            return isinstance(error, _FAILURES)
        if error.retry_after is None:
            return False
        self._bucket.back_off(error.retry_after, time.monotonic())
        log.warning("rate limited", path=path, seconds=error.retry_after)
        return 0.0  # the bucket delays the next attempt, and all other requests

    async def _get(self, request: Request) -> bytes:
        async with self._http.get(self._base + request.path, params=request.params, timeout=_TIMEOUT) as response:
            body = await response.content.read(_MAX_BODY)
            while not response.content.at_eof():
                body += await response.content.read(_MAX_BODY)
                if len(body) > _MAX_BODY:
                    raise RestRefused(f"response larger than {_MAX_BODY} bytes")
            if response.status in _LIMITED:
                raise RestRefused(f"HTTP {response.status}", retry_after=_seconds(response.headers.get("Retry-After")))
            if response.status == _ACCESS_TOO_FREQUENT:
                raise RestRefused(f"HTTP {response.status}", retry_after=_BAN)
            if response.status >= 500:
                raise aiohttp.ClientPayloadError(f"HTTP {response.status}")
            if response.status != 200:
                text = body[:200].decode(errors="replace")
                raise RestRefused(f"HTTP {response.status}: {text}", unknown_symbol=response.status in {400, 404})
        return body


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isascii() and header.isdigit() else _DEFAULT_PENALTY
