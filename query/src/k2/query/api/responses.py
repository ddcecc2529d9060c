"""From a question to a response: asked in a thread, stopped when its client goes, sent as fast as the client reads.

Nothing is sent before the first rows are there, so whatever goes wrong until then is told as a problem. What goes wrong
later cuts the connection: an answer that is not whole never looks as if it were.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import HTTPConnection
from starlette.responses import Response

from k2.query.api.encoding import formats
from k2.query.api.encoding.formats import Chunk, Media
from k2.query.api.errors import Refused
from k2.query.api.limits import Slots
from k2.query.execution.cancellation import Interrupt

if TYPE_CHECKING:
    from pyarrow import RecordBatchReader
    from starlette.types import Receive, Scope, Send

    from k2.query.api.settings import ApiSettings
    from k2.query.engine import Engine

T = TypeVar("T")
Parts = list[Chunk]
FOREVER: Final = "private, max-age=31536000, immutable"
SHORT: Final = "private, max-age=1"
NEVER: Final = "no-store"
_GATHERED: Final = 12_000_000  # bytes: a batch of trades has 8 to 10 MB, and an answer of one tells its length
_PATIENCE: Final = 0.1  # seconds: what is there by then is sent
_SLICE: Final = 1024 * 1024  # bytes for the socket at once: each is copied, and new memory costs more than the copy
_VARY: Final = "Accept, Accept-Encoding, Authorization, X-Api-Key"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a question came to: a status, headers, and the body in pieces; `whole`: few enough to be sent as one."""

    chunks: Iterator[Chunk] = field(default_factory=lambda: iter(()))
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    media: str | None = Media.JSON
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client said of the form of the answer."""

    media: Media
    pack: bool
    known: str  # If-None-Match

    @classmethod
    def of(cls, connection: HTTPConnection) -> "Wish":
        """Raises `Refused` if it takes no format that there is."""
        headers = connection.headers
        pack = formats.packable(headers.get("accept-encoding"))
        return cls(formats.wanted(headers.get("accept")), pack, headers.get("if-none-match", ""))

    def unchanged(self, tag: str) -> bool:
        """Whether the client has the answer already."""
        known = [part.strip().removeprefix("W/") for part in self.known.split(",")]
        return tag in known or "*" in known

    def reply(
        self,
        reader: "RecordBatchReader",
        headers: Mapping[str, str],
        envelope: Callable[[int], dict[str, Any]] = lambda _: {},
        *,
        whole: bool = False,
    ) -> Reply:
        """Rows in the client's format, packed if it takes that."""
        chunks = formats.encoded(reader, self.media, envelope)
        told = {"Vary": _VARY, **headers}
        if self.pack and self.media.text:
            chunks, told = formats.packed(chunks), told | {"Content-Encoding": "gzip"}
        return Reply(chunks, told, media=self.media, whole=whole)


class Work:
    """Asks the engine, for as many at once as there are places, and for as long as anybody waits."""

    def __init__(self, engine: "Callable[[], Engine]", settings: "ApiSettings") -> None:
        self.settings = settings
        self.queries, self.statements = Slots(settings.queries, settings), Slots(settings.statements, settings)
        self._engine = engine
        self._threads = CapacityLimiter(settings.queries + 2)

    async def run(self, connection: HTTPConnection, question: "Callable[[Engine], T]") -> T:
        """What the engine says to a short question."""
        async with self.queries.held(connection.state.caller.name):
            return await self.step(Interrupt(), lambda: question(self._engine()))

    def answer(
        self, connection: HTTPConnection, question: "Callable[[Engine], Reply]", *, statement: bool = False
    ) -> "Answer":
        """The response that will ask when it is sent. Of a user's statements few run at once."""
        places = (self.statements, self.queries) if statement else (self.queries,)
        return Answer(self, connection, lambda: question(self._engine()), places)

    async def step(self, stop: Interrupt, piece: Callable[[], T]) -> T:
        """One piece of work in a thread. It is stopped when it takes too long, or when nobody waits any more."""

        def stoppable() -> T:
            with stop.able():
                return piece()

        try:
            async with asyncio.timeout(self.settings.seconds):
                return await to_thread.run_sync(stoppable, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError:
            stop()
            limit = f"{self.settings.seconds:g} s"
            raise Refused(413, f"the answer takes longer than {limit}; ask for less, such as a shorter range") from None
        except asyncio.CancelledError:
            stop()
            raise


def asking(connection: HTTPConnection, question: "Callable[[Engine], Reply]", *, statement: bool = False) -> "Answer":
    """The response to a request, which asks when it is sent."""
    work: Work = connection.app.state.work
    return work.answer(connection, question, statement=statement)


class Answer(Response):
    """Asks, and sends what comes."""

    def __init__(
        self, work: Work, connection: HTTPConnection, question: Callable[[], Reply], places: Sequence[Slots]
    ) -> None:
        self._work, self._question, self._places = work, question, places
        self._caller = connection.state.caller
        self._stop = Interrupt()
        self.status_code = 200
        self.background = None
        self.init_headers(self._caller.spent)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Asks and sends, unless the client goes before that is done."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            for task in (sending, leaving):
                task.cancel()
            with suppress(asyncio.CancelledError, Refused):
                await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: "Send") -> None:
        async with AsyncExitStack() as held:
            for places in self._places:
                await held.enter_async_context(places.held(self._caller.name))
            reply, parts, more = await self._work.step(self._stop, self._begun)
            coming: asyncio.Future[tuple[Parts, bool]] | None = None
            try:
                await self._start(send, reply, sum(map(len, parts)), whole=not more)
                while more:  # the next parts are made while these are sent
                    coming = asyncio.ensure_future(self._work.step(self._stop, lambda: _gathered(reply)))
                    await self._write(send, parts)
                    parts, more = await coming
                await self._write(send, parts)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                self._stop()
                if coming is not None:
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                await asyncio.shield(to_thread.run_sync(_close, reply.chunks))

    def _begun(self) -> tuple[Reply, Parts, bool]:
        reply = self._question()
        return reply, *_gathered(reply)

    async def _start(self, send: "Send", reply: Reply, size: int, *, whole: bool) -> None:
        self.headers.update(reply.headers)
        if reply.media:
            self.headers["Content-Type"] = f"{reply.media}; charset=utf-8" if reply.media == Media.CSV else reply.media
        if whole and reply.status != 304:
            self.headers["Content-Length"] = str(size)
        await send({"type": "http.response.start", "status": reply.status, "headers": self.raw_headers})

    async def _write(self, send: "Send", parts: Parts) -> None:
        """A client that does not read is let go."""
        for part in parts:
            whole = memoryview(part)
            for at in range(0, len(whole), _SLICE):
                async with asyncio.timeout(self._work.settings.stall):
                    await send({"type": "http.response.body", "body": whole[at : at + _SLICE], "more_body": True})


async def _gone(receive: "Receive") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _gathered(reply: Reply) -> tuple[Parts, bool]:
    """What there is to send next, and whether more may follow."""
    parts, size, until = Parts(), 0, time.monotonic() + _PATIENCE
    for part in reply.chunks:
        parts.append(part)
        size += len(part)
        if not reply.whole and (size >= _GATHERED or time.monotonic() > until):
            return parts, True
    return parts, False


def _close(chunks: Iterator[Chunk]) -> None:
    """Lets go of what a question holds that was not asked to its end. Whatever ran has been stopped before."""
    close = getattr(chunks, "close", None)
    if close is not None:
        with suppress(ValueError):  # it still ends in its own thread
            close()
