"""Run queries in threads and stream their results: cancelled when the client disconnects, with back-pressure.

Nothing is sent before the first rows exist, so an error until then becomes a problem response. A later error aborts the
connection: an incomplete response never looks complete. A query leaves its slot to others once it has computed its
result, whether or not its client has read it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse

from k2.common import tracing
from k2.query.api.auth import Client
from k2.query.api.delivery.backlog import Backlog, TooSlow, Unread
from k2.query.api.encoding.formats import Chunk, MediaType
from k2.query.api.encoding.results import QueryResult
from k2.query.api.errors import ResponseCut
from k2.query.api.limits import QueryLimiter
from k2.query.errors import BadQuery, Unavailable
from k2.query.execution.cancellation import Interrupt

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from k2.query.api.settings import ApiSettings
    from k2.query.engine import Engine

T = TypeVar("T")
Parts = list[Chunk]
_BUFFER_BYTES: Final = 12_000_000  # a batch of trades has 8 to 10 MB, so a result of one batch gets a Content-Length
_FLUSH_SECONDS: Final = 0.1  # send what is buffered after this time


class QueryExecutor:
    """Run queries in worker threads, within the limits, until they finish or their client disconnects."""

    def __init__(self, engine: "Callable[[], Engine]", settings: "ApiSettings") -> None:
        self.settings = settings
        self.queries, self.statements = (
            QueryLimiter(settings.max_queries, settings),
            QueryLimiter(settings.max_statements, settings),
        )
        self.backlog = Backlog(settings.max_unread_bytes)
        self.get_engine = engine
        self._threads = CapacityLimiter(settings.max_queries + 2)

    async def run_step(self, interrupt: Interrupt, step: Callable[[], T]) -> T:
        """Run one step of a query in a thread; interrupt it on timeout or cancellation.

        Raises `HTTPException` (413) on timeout.
        """

        def interruptible() -> T:
            with interrupt.scope():
                return step()

        try:
            async with asyncio.timeout(self.settings.query_timeout):
                return await to_thread.run_sync(interruptible, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError:
            interrupt()
            limit = f"{self.settings.query_timeout:g} s"
            raise HTTPException(
                413, f"the query took longer than {limit}; narrow it, for example to a shorter time range"
            ) from None
        except asyncio.CancelledError:
            interrupt()
            raise


@dataclass(frozen=True, slots=True)
class QuerySlot:
    """The place of a request's query among all queries: its client, and the limiters that it has to pass."""

    executor: QueryExecutor
    client: Client
    limiters: tuple[QueryLimiter, ...]

    def stream(self, query: "Callable[[Engine], QueryResult]") -> "StreamedResponse":
        """Return the response that waits for the slot, runs the query in a thread, and streams its result."""
        return StreamedResponse(self, query)


class StreamedResponse(StreamingResponse):
    """A response that runs its query when it is sent, and streams the result until the client disconnects."""

    def __init__(self, slot: QuerySlot, query: "Callable[[Engine], QueryResult]") -> None:
        self._executor, self._client, self._limiters = slot.executor, slot.client, slot.limiters
        self._query = query
        self._interrupt = Interrupt()
        self._sending: asyncio.Timeout | None = None
        self._error: Exception | None = None
        super().__init__((), headers=self._client.rate_headers)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Send the result while listening for a disconnect.

        Starlette leaves that to `send` where the server claims ASGI 2.4, but nothing is sent while a query runs.
        """
        route = getattr(scope.get("route"), "path", "")
        attributes = {"http.request.method": scope["method"], "http.route": route}
        with tracing.span(f"query {route}", attributes, parent=Headers(scope=scope)):
            await super().__call__({**scope, "asgi": {"spec_version": "2.3"}}, receive, send)

    async def stream_response(self, send: "Send") -> None:
        """Run the query, then send its status, headers and chunks. A client that does not read is disconnected.

        Raises `ResponseCut` for an error after the first bytes were sent.
        """
        started = False

        async def timed_send(message: "Message") -> None:
            nonlocal started
            started = True
            try:
                async with asyncio.timeout(self._executor.settings.send_timeout) as self._sending:
                    await send(message)
            finally:
                self._sending = None

        try:
            async with AsyncExitStack() as slots:
                for limiter in self._limiters:
                    await slots.enter_async_context(limiter.acquire(self._client.name))
                result, parts, more = await self._executor.run_step(self._interrupt, self._run_query)
                self._describe(result, None if more else sum(map(len, parts)))
                async with self._computed(result, parts, slots, more=more) as unread, aclosing(unread.take()) as chunks:
                    self.body_iterator = chunks
                    await super().stream_response(timed_send)
        except (HTTPException, BadQuery, Unavailable, TooSlow, TimeoutError) as error:
            if not started:
                raise
            raise ResponseCut(_reason(self._error or error)) from error

    @asynccontextmanager
    async def _computed(
        self, result: QueryResult, parts: Parts, slots: AsyncExitStack, *, more: bool
    ) -> AsyncIterator[Unread]:
        """Compute the rest ahead of the client, and then leave the slots to others."""
        unread = Unread(self._executor.backlog, lambda: any(limiter.contended for limiter in self._limiters))
        computing = asyncio.ensure_future(self._compute(result, parts, unread, slots, more=more))
        try:
            yield unread
        finally:
            self._interrupt()
            computing.cancel()
            with CancelScope(shield=True):
                await asyncio.gather(computing, return_exceptions=True)
                await to_thread.run_sync(_close, result.chunks)
            unread.close()

    async def _compute(
        self, result: QueryResult, parts: Parts, unread: Unread, slots: AsyncExitStack, *, more: bool
    ) -> None:
        try:
            await unread.add(parts)
            while more:
                parts, more = await self._executor.run_step(self._interrupt, lambda: _next_parts(result))
                await unread.add(parts)
            await unread.complete()
            await slots.aclose()
        except Exception as error:  # noqa: BLE001 - raised by the task that sends
            self._error = error
            unread.fail(error)
            if self._sending is not None:  # to a client that may not read
                self._sending.reschedule(0)

    def _run_query(self) -> tuple[QueryResult, Parts, bool]:
        result = self._query(self._executor.get_engine())
        return result, *_next_parts(result)

    def _describe(self, result: QueryResult, size: int | None) -> None:
        """Set status and headers; `size` if the parts are all there."""
        self.status_code = result.status
        self.headers.update(result.headers)
        if result.media_type:
            csv = result.media_type == MediaType.CSV
            self.headers["Content-Type"] = f"{result.media_type}; charset=utf-8" if csv else result.media_type
        if size is not None and result.status != 304:
            self.headers["Content-Length"] = str(size)


def _next_parts(result: QueryResult) -> tuple[Parts, bool]:
    """Return the parts to send next, and whether more may follow."""
    parts, size, until = Parts(), 0, time.monotonic() + _FLUSH_SECONDS
    for part in result.chunks:
        parts.append(part)
        size += len(part)
        if size >= _BUFFER_BYTES or (not result.whole and time.monotonic() > until):
            return parts, True
    return parts, False


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the client does not read"
    return str(error.detail) if isinstance(error, HTTPException) else str(error)


def _close(chunks: Iterator[Chunk]) -> None:
    """Release the resources of a query that was not read to its end. It has been interrupted before."""
    close = getattr(chunks, "close", None)
    if close is not None:
        with suppress(ValueError):  # the generator is still running in its thread
            close()
