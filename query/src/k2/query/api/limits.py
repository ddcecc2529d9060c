"""How much one client, and all of them together, may take: bodies, requests at once, queries at once and in waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from k2.query.api.errors import Refused, told

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from k2.query.api.settings import ApiSettings

_SOON: Final = {"Retry-After": "1"}
_LINE: Final = 4  # times as many queries of one caller as run at once: viewers of a dashboard share its key
_STREAM: Final = "/v1/stream"
_ALWAYS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # heard when there is no place left


@dataclass(slots=True)
class _Line:
    """The queries of one caller: those that have a place of its own, and behind them those that wait for one."""

    places: asyncio.Semaphore
    queries: int = 0


class Slots:
    """Places for queries, or for those of one kind. Whoever finds none waits for a while, behind its own and others."""

    def __init__(self, places: int, settings: "ApiSettings") -> None:
        self._places = asyncio.Semaphore(places)
        self._each, self._most, self._patience = settings.queries_each, settings.waiting, settings.seconds
        self._lines: dict[str, _Line] = {}
        self.waiting = 0
        self.running = 0

    @asynccontextmanager
    async def held(self, caller: str) -> AsyncIterator[None]:
        """One place for one query. Raises `Refused`: 429 if the caller's own line is full, 503 if there is no place."""
        line = self._lines.get(caller) or _Line(asyncio.Semaphore(self._each))
        if line.queries >= self._each * _LINE:
            raise Refused(429, f"{line.queries} queries of yours run or wait; wait for one to end", _SOON)
        if self.waiting >= self._most and (self._places.locked() or line.places.locked()):
            raise Refused(503, "too many queries wait; come back in a moment", _SOON)
        self._lines[caller] = line
        line.queries += 1
        try:
            await self._place(line)
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1
                self._places.release()
                line.places.release()
        finally:
            line.queries -= 1
            if not line.queries:
                del self._lines[caller]

    async def _place(self, line: _Line) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await line.places.acquire()
                try:
                    await self._places.acquire()
                except BaseException:
                    line.places.release()
                    raise
        except TimeoutError:
            raise Refused(503, "too many queries run; come back in a moment", _SOON) from None
        finally:
            self.waiting -= 1


class Limits:
    """Outermost of the application: refuses what is too much before anything is done for it."""

    def __init__(self, app: "ASGIApp", settings: "ApiSettings") -> None:
        self._app, self._settings = app, settings
        self._running = 0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request. Those for health are always heard; streams last, and their hub counts them."""
        if scope["type"] != "http" or scope["path"] == _STREAM:
            await self._app(scope, receive, send)
            return
        if self._running >= self._settings.requests and scope["path"] not in _ALWAYS:
            await told(Refused(503, "too many requests at once; come back in a moment", _SOON))(scope, receive, send)
            return
        self._running += 1
        try:
            body = await self._body(scope, receive)
        except Refused as error:
            await told(error)(scope, receive, send)
        else:
            await self._app(scope, _again(body, receive), send)
        finally:
            self._running -= 1

    async def _body(self, scope: "Scope", receive: "Receive") -> bytes:
        """All of it, as it is small. What is packed is not taken, so that it cannot grow."""
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refused(
                415, "a packed body is not accepted; send it without Content-Encoding", {"Accept-Encoding": ""}
            )
        too_much = Refused(413, f"the body is longer than {self._settings.body_bytes} bytes; shorten it")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._settings.body_bytes:
            raise too_much
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return b""
        found = bytearray()
        try:
            async with asyncio.timeout(self._settings.header_seconds):
                while True:
                    message = await receive()
                    found += message.get("body", b"")
                    if len(found) > self._settings.body_bytes:
                        raise too_much
                    if not message.get("more_body", False):
                        return bytes(found)
        except TimeoutError:
            raise Refused(408, "the body did not come; send it at once", {"Connection": "close"}) from None


def crowded(app: "ASGIApp") -> "ASGIApp":
    """What answers on a connection too many: it is told why and let go, unless it asks for health."""

    async def answer(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["path"] in _ALWAYS:
            await app(scope, receive, send)
        else:
            leave = Refused(503, "too many connections; come back in a moment", {**_SOON, "Connection": "close"})
            await told(leave)(scope, receive, send)

    return answer


def _again(body: bytes, receive: "Receive") -> "Receive":
    """The body as one message, and then whatever comes."""
    told_once = False

    async def message() -> "Message":
        nonlocal told_once
        if told_once:
            return await receive()
        told_once = True
        return {"type": "http.request", "body": body, "more_body": False}

    return message
