"""Run queries in threads and stream their results: cancelled when the client disconnects, with back-pressure.

Nothing is sent before the first rows exist, so an error until then becomes a problem response. A later error aborts the
connection: an incomplete response never looks complete.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from k2.query.api.encoding import formats
from k2.query.api.encoding.formats import Chunk, MediaType
from k2.query.api.limits import QueryLimiter
from k2.query.execution.cancellation import Interrupt

if TYPE_CHECKING:
    from pyarrow import RecordBatchReader
    from starlette.types import Receive, Scope, Send

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


class StreamedResponse(Response):
    """A response that runs its query and streams the result."""

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
        self.status_code = 200
        self.background = None
        self.init_headers(self._client.rate_headers)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Run the query and send its result until done or the client disconnects."""
        sending = asyncio.ensure_future(self._send(send))
        disconnecting = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            for task in (sending, disconnecting):
                task.cancel()
            with suppress(asyncio.CancelledError, HTTPException):
                await asyncio.gather(sending, disconnecting, return_exceptions=True)

    async def _send(self, send: "Send") -> None:
        async with AsyncExitStack() as slots:
            for limiter in self._limiters:
                await slots.enter_async_context(limiter.acquire(self._client.name))
            result, parts, more = await self._executor.run_step(self._interrupt, self._run_query)
            upcoming: asyncio.Future[tuple[Parts, bool]] | None = None
            try:
                await self._start(send, result, sum(map(len, parts)), whole=not more)
                while more:  # encode the next parts while these are sent
                    upcoming = asyncio.ensure_future(
                        self._executor.run_step(self._interrupt, lambda: _next_parts(result))
                    )
                    await self._write(send, parts)
                    parts, more = await upcoming
                await self._write(send, parts)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                self._interrupt()
                if upcoming is not None:
                    upcoming.cancel()
                    await asyncio.gather(upcoming, return_exceptions=True)
                await asyncio.shield(to_thread.run_sync(_close, result.chunks))

    def _run_query(self) -> tuple[QueryResult, Parts, bool]:
        result = self._query()
        return result, *_next_parts(result)

    async def _start(self, send: "Send", result: QueryResult, size: int, *, whole: bool) -> None:
        self.headers.update(result.headers)
        if result.media_type:
            csv = result.media_type == MediaType.CSV
            self.headers["Content-Type"] = f"{result.media_type}; charset=utf-8" if csv else result.media_type
        if whole and result.status != 304:
            self.headers["Content-Length"] = str(size)
        await send({"type": "http.response.start", "status": result.status, "headers": self.raw_headers})

    async def _write(self, send: "Send", parts: Parts) -> None:
        """Send the parts. A client that does not read within the timeout is disconnected."""
        for part in parts:
            view = memoryview(part)
            for at in range(0, len(view), _SEND_BYTES):
                async with asyncio.timeout(self._executor.settings.send_timeout):
                    await send({"type": "http.response.body", "body": view[at : at + _SEND_BYTES], "more_body": True})


async def _disconnected(receive: "Receive") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
