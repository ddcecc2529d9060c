"""The REST client of one exchange, within the limits of this process's address."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

from k2.common import logs
from k2.common.retry import AsyncRetryingCaller
from k2.ingest.exchanges.answers import ALL_TRANSIENT, RestAnswers, seconds
from k2.ingest.exchanges.base import Request, RestRefused
from k2.ingest.network.client import FAILURES, HttpClient, ReplyTooLarge
from k2.ingest.network.limits import AddressLimits

log = logs.get("rest")

Result = TypeVar("Result")

_retrying: Final = AsyncRetryingCaller(attempts=8, timeout=None, wait_initial=0.5, wait_max=30.0)


class RestUnreachable(ConnectionError):
    """The exchange's REST API did not answer."""


class RestClient:
    """Request an exchange's history below the URL `base`. `answers` says which of its errors are final."""

    def __init__(
        self,
        http: HttpClient,
        base: str,
        limits: AddressLimits,
        answers: RestAnswers = ALL_TRANSIENT,
        *,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._base = base
        self._limits = limits
        self._utc = utc
        self.answers = answers

    async def fetch(self, request: Request, read: Callable[[bytes], Result]) -> Result:
        """Send a request, several times if need be, and return what `read` makes of the body.

        Waits as long as the exchange demands. Raises `RestRefused` for a final error, `RestUnreachable` after several
        failed attempts, and whatever `read` raises.
        """

        async def attempt() -> Result:
            return await self.fetch_once(request, read)

        try:
            return await _retrying(_backoff, attempt)
        except RestRefused as error:
            if error.reason is not None:
                raise
            raise RestUnreachable(f"{self._base}{request.path}: {error}") from error

    async def fetch_once(self, request: Request, read: Callable[[bytes], Result]) -> Result:
        """Send a request once, within the rate limit, and return what `read` makes of the body.

        Raises `RestRefused` if the exchange answers with an error, `RestUnreachable` if it does not answer, and
        whatever `read` raises. An error that forbids all requests delays every later one.
        """
        result, _ = await self.fetch_timed(request, read)
        return result

    async def fetch_timed(self, request: Request, read: Callable[[bytes], Result]) -> tuple[Result, float]:
        """Send a request once, like `fetch_once`. Return also the seconds from sending it to the end of the answer."""
        now = asyncio.get_running_loop().time
        wait = self._limits.request(request.weight, now())
        while True:
            await asyncio.sleep(wait)
            if not (wait := self._limits.banned(now())):  # since it began to wait, another request may have met a ban
                break
        try:
            sent = now()
            return await self._get(request, read), now() - sent
        except RestRefused as error:
            if error.pauses and error.retry_after is not None:
                self._limits.forbid(error.retry_after, now(), connects=error.stops_connects)
                log.warning("requests paused", path=request.path, seconds=error.retry_after, error=str(error))
            raise
        except FAILURES as error:
            raise RestUnreachable(f"{self._base}{request.path}: {str(error) or type(error).__name__}") from error

    async def _get(self, request: Request, read: Callable[[bytes], Result]) -> Result:
        try:
            reply = await self._http.get(self._base + request.path, request.params)
        except ReplyTooLarge as error:
            raise RestRefused(str(error)) from error
        limits = self._limits
        if limits.counter:
            limits.used(reply.headers.get(limits.counter), asyncio.get_running_loop().time(), self._utc())
        retry_after = reply.headers.get("Retry-After")
        if reply.status != 200:
            self.answers.check(reply.body, reply.status, retry_after)
        try:
            return read(reply.body)
        except RestRefused as error:
            if (wait := seconds(retry_after)) is not None and error.reason is None:
                error.retry_after = wait
            raise


def _backoff(error: Exception) -> bool | float:
    """Return whether to retry after `error`, or the seconds to wait before that."""
    if not isinstance(error, RestRefused):
        return isinstance(error, RestUnreachable)
    if error.reason is not None:
        return False
    if error.pauses:
        return 0.0  # the limits delay the next attempt, and all other requests
    return True if error.retry_after is None else error.retry_after
