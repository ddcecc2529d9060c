"""The network in this process: the only replacement of aiohttp's client, at the calls that the ingest makes of it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSMessage, WSMsgType

_ROUND_TRIP = 0.05  # seconds
_ABNORMAL = 1006


class Server(Protocol):
    """What is at the other end."""

    async def accept(self, owner: Any, path: str) -> "Socket":
        """Open a websocket, or raise an error of aiohttp."""

    def on_message(self, socket: "Socket", text: str) -> None:
        """Take a client's message."""

    def on_pong(self, socket: "Socket") -> None:
        """Take a client's pong."""

    def on_closed(self, socket: "Socket") -> None:
        """Take note that a client closed a websocket."""

    async def answer(self, owner: Any, path: str, query: Mapping[str, str]) -> "Answer":
        """Answer a GET request, or raise an error of aiohttp."""


@dataclass(slots=True)
class Answer:
    """An answer of a server."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False  # the connection breaks within the body


class Socket:
    """Both ends of a websocket, with the client's methods of aiohttp."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._inbox: deque[WSMessage] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.open = True
        self.close_code: int | None = None

    # The client's end

    async def receive(self, timeout: float | None = None) -> WSMessage:
        """Return the next message. Raises TimeoutError."""
        if timeout is None:
            await self._arrival()
        else:
            async with asyncio.timeout(timeout):
                await self._arrival()
        return self._inbox.popleft()

    async def _arrival(self) -> None:
        while not self._inbox:
            self._waiter = self._loop.create_future()
            await self._waiter

    async def send_str(self, text: str) -> None:
        """Send a message. Raises an error of aiohttp if the connection is gone."""
        if not self.open:
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        self._server.on_message(self, text)

    async def pong(self, _: bytes) -> None:
        """Answer a ping."""
        if self.open:
            self._server.on_pong(self)

    async def close(self) -> bool:
        """Close the connection."""
        if self.open:
            self.open = False
            self._server.on_closed(self)
            await asyncio.sleep(_ROUND_TRIP)
        return True

    async def __aenter__(self) -> "Socket":
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.close()

    # The server's end

    def feed(self, text: str) -> None:
        """Bring a text frame to the client."""
        self._put(WSMessage(WSMsgType.TEXT, text.encode(), ""))

    def ping(self) -> None:
        """Bring a ping to the client."""
        self._put(WSMessage(WSMsgType.PING, b"1", ""))

    def cut(self, code: int = 0, reason: str = "", *, unread: bool = True) -> None:
        """End the connection, with a close frame if there is a code; without `unread`, frames not read yet are lost."""
        if not self.open:
            return
        self.open = False
        if not unread:
            self._inbox.clear()
        self.close_code = code or _ABNORMAL
        kind = WSMsgType.CLOSE if code else WSMsgType.CLOSED
        self._put(WSMessage(kind, code or None, reason))

    def _put(self, message: WSMessage) -> None:
        self._inbox.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Response:
    """An HTTP response, with the attributes of aiohttp's that the ingest reads; to be entered first."""

    content: "_Response"

    def __init__(self, coming: Awaitable[Answer], timeout: float) -> None:
        self._coming = coming
        self._timeout = timeout
        self._read = False

    async def __aenter__(self) -> "_Response":
        async with asyncio.timeout(self._timeout):
            self._answer = await self._coming
        self.status, self.headers, self.content = self._answer.status, self._answer.headers, self
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        pass

    async def read(self, _: int = -1) -> bytes:
        """Return the body. Raises an error of aiohttp if it was cut."""
        if self._answer.cut:
            raise aiohttp.ClientPayloadError("Response payload is not completed")
        self._read = True
        return self._answer.body

    def at_eof(self) -> bool:
        """Whether the body was read."""
        return self._read


class Http:
    """The client session of one process, in place of aiohttp's."""

    def __init__(self, server: Server, owner: Any) -> None:
        self._server = server
        self._owner = owner

    async def ws_connect(self, url: str, *, decode_text: bool, **_: Any) -> Socket:
        """Open a websocket."""
        assert not decode_text
        return await self._server.accept(self._owner, urlsplit(url).path or "/")

    def get(self, url: str, *, params: Mapping[str, str], timeout: aiohttp.ClientTimeout, **_: Any) -> _Response:
        """Send a GET request."""
        assert timeout.total
        return _Response(self._server.answer(self._owner, urlsplit(url).path, params), timeout.total)
