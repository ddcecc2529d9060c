"""Limits on request bodies, concurrent requests, and running and queued queries, in total and per client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastapi import HTTPException

from k2.query.api.errors import http_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from k2.query.api.settings import ApiSettings

_RETRY_SOON: Final = {"Retry-After": "1"}
_QUEUE_FACTOR: Final = 4  # running and queued queries per running one: the viewers of a dashboard share its key
_STREAM_PATH: Final = "/v1/stream"
_EXEMPT_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # served even at the limit


@dataclass(slots=True)
class _ClientQueue:
    """The running and queued queries of one client, and the semaphore that limits the running ones."""

    slots: asyncio.Semaphore
    queries: int = 0


class QueryLimiter:
    """Limit concurrent queries in total and per client; further queries wait in a bounded queue, for a bounded time.

    `running` and `queued` are the current numbers.
    """

    def __init__(self, limit: int, settings: "ApiSettings") -> None:
        self._slots = asyncio.Semaphore(limit)
        self._per_client, self._max_queued = settings.max_queries_per_client, settings.max_queued
        self._timeout = settings.query_timeout
        self._clients: dict[str, _ClientQueue] = {}
        self._waiting_for_others = 0
        self.queued = 0
        self.running = 0

    @property
    def contended(self) -> bool:
        """Whether a query waits for one that runs, not only for its own client's."""
        return self._waiting_for_others > 0

    @asynccontextmanager
    async def acquire(self, client: str) -> AsyncIterator[None]:
        """Hold a slot for one query while the context is open.

        Raises `HTTPException`: 429 if the client's own queue is full, 503 if the queue of all is full or the wait
        takes longer than the query timeout.
        """
        queue = self._clients.get(client) or _ClientQueue(asyncio.Semaphore(self._per_client))
        if queue.queries >= self._per_client * _QUEUE_FACTOR:
            raise HTTPException(
                429,
                f"this client already has {queue.queries} queries running or queued; wait for one to finish",
                _RETRY_SOON,
            )
        if self.queued >= self._max_queued and (self._slots.locked() or queue.slots.locked()):
            raise HTTPException(503, "the query queue is full; retry in a moment", _RETRY_SOON)
        self._clients[client] = queue
        queue.queries += 1
        try:
            await self._wait_for_slot(queue)
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1
                self._slots.release()
                queue.slots.release()
        finally:
            queue.queries -= 1
            if not queue.queries:
                del self._clients[client]

    async def _wait_for_slot(self, queue: _ClientQueue) -> None:
        self.queued += 1
        try:
            async with asyncio.timeout(self._timeout):
                await queue.slots.acquire()
                self._waiting_for_others += 1
                try:
                    await self._slots.acquire()
                except BaseException:
                    queue.slots.release()
                    raise
                finally:
                    self._waiting_for_others -= 1
        except TimeoutError:
            raise HTTPException(503, "too many queries are running; retry in a moment", _RETRY_SOON) from None
        finally:
            self.queued -= 1


class RequestLimitMiddleware:
    """Reject requests over the concurrency or body-size limit before any other work is done for them."""

    def __init__(self, app: "ASGIApp", settings: "ApiSettings") -> None:
        self._app, self._settings = app, settings
        self._running = 0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Handle one request. Health checks are exempt; streams are long-lived, and the broadcaster limits them."""
        if scope["type"] != "http" or scope["path"] == _STREAM_PATH:
            await self._app(scope, receive, send)
            return
        if self._running >= self._settings.max_requests and scope["path"] not in _EXEMPT_PATHS:
            rejected = HTTPException(503, "too many concurrent requests; retry in a moment", _RETRY_SOON)
            await http_problem(rejected)(scope, receive, send)
            return
        self._running += 1
        try:
            body = await self._body(scope, receive)
        except HTTPException as error:
            await http_problem(error)(scope, receive, send)
        else:
            await self._app(scope, _replay_body(body, receive), send)
        finally:
            self._running -= 1

    async def _body(self, scope: "Scope", receive: "Receive") -> bytes:
        """Read the whole body. A compressed one is rejected, so that it cannot grow past the limit when unpacked."""
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise HTTPException(
                415,
                "compressed bodies are not accepted; send the body without Content-Encoding",
                {"Accept-Encoding": ""},
            )
        too_much = HTTPException(
            413, f"the body is larger than {self._settings.max_body_bytes} bytes; send a smaller one"
        )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._settings.max_body_bytes:
            raise too_much
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return b""
        received = bytearray()
        try:
            async with asyncio.timeout(self._settings.header_timeout):
                while True:
                    message = await receive()
                    received += message.get("body", b"")
                    if len(received) > self._settings.max_body_bytes:
                        raise too_much
                    if not message.get("more_body", False):
                        return bytes(received)
        except TimeoutError:
            raise HTTPException(
                408, "the body did not arrive in time; send it right after the headers", {"Connection": "close"}
            ) from None


def overload_app(app: "ASGIApp") -> "ASGIApp":
    """Return the application for a connection over the limit: 503 and close, except for health checks."""

    async def respond(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["path"] in _EXEMPT_PATHS:
            await app(scope, receive, send)
        else:
            rejected = HTTPException(
                503, "too many connections; retry in a moment", {**_RETRY_SOON, "Connection": "close"}
            )
            await http_problem(rejected)(scope, receive, send)

    return respond


def _replay_body(body: bytes, receive: "Receive") -> "Receive":
    """Return a `receive` that yields the body as one message, then whatever the client sends next."""
    replayed = False

    async def message() -> "Message":
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return message
