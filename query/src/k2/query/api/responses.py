"""Run queries in threads and stream their results: cancelled when the client disconnects, with back-pressure.

Nothing is sent before the first rows exist, so an error until then becomes a problem response. A later error aborts the
connection: an incomplete response never looks complete.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse

from k2.query.api.encoding import formats
from k2.query.api.encoding.formats import Chunk, MediaType
from k2.query.api.limits import QueryLimiter
from k2.query.execution.cancellation import Interrupt

if TYPE_CHECKING:
    from pyarrow import RecordBatchReader
    from starlette.types import Message, Receive, Scope, Send

    from k2.query.api.settings import ApiSettings
    from k2.query.engine import Engine

T = TypeVar("T")
Parts = list[Chunk]
IMMUTABLE: Final = "private, max-age=31536000, immutable"
SHORT_LIVED: Final = "private, max-age=1"
NO_STORE: Final = "no-store"
_BUFFER_BYTES: Final = 12_000_000  # a batch of trades has 8 to 10 MB, so a result of one batch gets a Content-Length
_FLUSH_SECONDS: Final = 0.1  # send what is buffered after this time
_SEND_BYTES: Final = 1024 * 1024  # per ASGI message: each is copied, and allocating more costs more than the copy
_VARY: Final = "Accept, Accept-Encoding, Authorization, X-Api-Key"


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of a query: status, headers and body chunks; `whole`: small enough to send with a Content-Length."""

    chunks: Iterator[Chunk] = field(default_factory=lambda: iter(()))
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    media_type: str | None = MediaType.JSON
    whole: bool = True


@dataclass(frozen=True, slots=True)
class AcceptedFormat:
    """The format that a client negotiated: media type, compression and cached ETags."""

    media_type: MediaType
    gzip: bool
    if_none_match: str

    @classmethod
    def of(cls, connection: HTTPConnection) -> "AcceptedFormat":
        """Read the request headers. Raises `HTTPException` if no format is acceptable."""
        headers = connection.headers
        gzip = formats.accepts_gzip(headers.get("accept-encoding"))
        return cls(formats.negotiate(headers.get("accept")), gzip, headers.get("if-none-match", ""))

    def matches(self, etag: str) -> bool:
        """Return whether the client's copy is current."""
        etags = [part.strip().removeprefix("W/") for part in self.if_none_match.split(",")]
        return etag in etags or "*" in etags

    def encode(
        self,
        reader: "RecordBatchReader",
        headers: Mapping[str, str],
        envelope: Callable[[int], dict[str, Any]] = lambda _: {},
        *,
        whole: bool = False,
    ) -> QueryResult:
        """Encode rows in the client's format, compressed if it accepts that."""
        chunks = formats.encode(reader, self.media_type, envelope)
        headers = {"Vary": _VARY, **headers}
        if self.gzip and self.media_type.is_text:
            chunks, headers = formats.gzip_chunks(chunks), {**headers, "Content-Encoding": "gzip"}
        return QueryResult(chunks, headers, media_type=self.media_type, whole=whole)


class QueryExecutor:
    """Run queries in worker threads, within the limits, until they finish or their client disconnects."""

    def __init__(self, engine: "Callable[[], Engine]", settings: "ApiSettings") -> None:
        self.settings = settings
        self.queries, self.statements = (
            QueryLimiter(settings.max_queries, settings),
            QueryLimiter(settings.max_statements, settings),
        )
        self._get_engine = engine
        self._threads = CapacityLimiter(settings.max_queries + 2)

    def respond(
        self, connection: HTTPConnection, query: "Callable[[Engine], QueryResult]", *, statement: bool = False
    ) -> "StreamedResponse":
        """Return a response that runs the query when it is sent. `statement`: the stricter limit of SQL applies."""
        limiters = (self.statements, self.queries) if statement else (self.queries,)
        return StreamedResponse(self, connection, lambda: query(self._get_engine()), limiters)

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


def query_response(
    connection: HTTPConnection, query: "Callable[[Engine], QueryResult]", *, statement: bool = False
) -> "StreamedResponse":
    """Return the response to a request; the query runs when the response is sent."""
    executor: QueryExecutor = connection.app.state.executor
    return executor.respond(connection, query, statement=statement)


class StreamedResponse(StreamingResponse):
    """A response that runs its query when it is sent, and streams the result until the client disconnects."""

    def __init__(
        self,
        executor: QueryExecutor,
        connection: HTTPConnection,
        query: Callable[[], QueryResult],
        limiters: Sequence[QueryLimiter],
    ) -> None:
        self._executor, self._query, self._limiters = executor, query, limiters
        self._client = connection.state.client
        self._interrupt = Interrupt()
        super().__init__((), headers=self._client.rate_headers)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Send the result while listening for a disconnect.

        Starlette leaves that to `send` where the server claims ASGI 2.4, but nothing is sent while a query runs.
        """
        await super().__call__({**scope, "asgi": {"spec_version": "2.3"}}, receive, send)

    async def stream_response(self, send: "Send") -> None:
        """Run the query, then send its status, headers and chunks. A client that does not read is disconnected."""

        async def timed_send(message: "Message") -> None:
            async with asyncio.timeout(self._executor.settings.send_timeout):
                await send(message)

        async with AsyncExitStack() as slots:
            for limiter in self._limiters:
                await slots.enter_async_context(limiter.acquire(self._client.name))
            result, parts, more = await self._executor.run_step(self._interrupt, self._run_query)
            try:
                self._describe(result, None if more else sum(map(len, parts)))
                async with aclosing(self._chunks(result, parts, more=more)) as self.body_iterator:
                    await super().stream_response(timed_send)
            finally:
                self._interrupt()
                with CancelScope(shield=True):
                    await to_thread.run_sync(_close, result.chunks)

    def _run_query(self) -> tuple[QueryResult, Parts, bool]:
        result = self._query()
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

    async def _chunks(self, result: QueryResult, parts: Parts, *, more: bool) -> AsyncGenerator[memoryview]:
        """Yield the parts in pieces to send; the next parts are encoded meanwhile."""
        while True:
            upcoming = asyncio.ensure_future(self._next(result)) if more else None
            try:
                for part in parts:
                    view = memoryview(part)
                    for at in range(0, len(view), _SEND_BYTES):
                        yield view[at : at + _SEND_BYTES]
                if upcoming is None:
                    return
                parts, more = await upcoming
            finally:
                if upcoming is not None and not upcoming.done():
                    self._interrupt()
                    upcoming.cancel()
                    with CancelScope(shield=True):
                        await asyncio.gather(upcoming, return_exceptions=True)

    async def _next(self, result: QueryResult) -> tuple[Parts, bool]:
        return await self._executor.run_step(self._interrupt, lambda: _next_parts(result))


def _next_parts(result: QueryResult) -> tuple[Parts, bool]:
    """Return the parts to send next, and whether more may follow."""
    parts, size, until = Parts(), 0, time.monotonic() + _FLUSH_SECONDS
    for part in result.chunks:
        parts.append(part)
        size += len(part)
        if not result.whole and (size >= _BUFFER_BYTES or time.monotonic() > until):
            return parts, True
    return parts, False


def _close(chunks: Iterator[Chunk]) -> None:
    """Release the resources of a query that was not read to its end. It has been interrupted before."""
    close = getattr(chunks, "close", None)
    if close is not None:
        with suppress(ValueError):  # the generator is still running in its thread
            close()
