"""The connections of clients to a simulated exchange: their queues, how they end, and how many may be opened."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from k2.common import logs
from k2.ingest.exchanges.base_venue import Client, Cut, Rules

log = logs.get("simulator")

QUEUE: Final = 50_000  # frames; a client that falls further behind is disconnected, as exchanges do
_PONG_TIMEOUT: Final = 60.0


class Connection:
    """One websocket with its own queue, so that a slow client does not delay others."""

    def __init__(self, socket: web.WebSocketResponse, client: Client) -> None:
        self.socket = socket
        self.client = client
        self.queue: asyncio.Queue[str | Cut] = asyncio.Queue(QUEUE)
        self.ping_payload = b""
        self.ping_sent_at = 0.0
        self.ended = False

    def put(self, frame: str) -> None:
        """Queue a frame; drop the connection if its queue is full."""
        self._queue(frame)

    def _queue(self, item: str | Cut) -> None:
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            self.abort("slow consumer")

    def reply(self, replies: Sequence[str | Cut]) -> bool:
        """Queue the replies to a request. Return whether one of them ends the connection."""
        for reply in replies:
            if isinstance(reply, Cut):
                self.end(reply)
                return True
            self.put(reply)
        return False

    def end(self, cut: Cut) -> None:
        """Close the connection with a close frame, after what is queued, or abort it where the exchange sends none."""
        self.ended = True
        if cut.code == 0:
            self.abort(cut.reason)
            return
        self._queue(cut)

    def abort(self, reason: str) -> None:
        """Abort the TCP connection without a close frame."""
        log.info("connection aborted", reason=reason)
        transport = self.socket._req.transport if self.socket._req else None  # noqa: SLF001 - there is no public way
        if transport is not None:
            transport.abort()

    async def write(self) -> None:
        """Send queued frames until cancelled, or until the end that is queued."""
        while isinstance(item := await self.queue.get(), str):
            await self.socket.send_str(item)
        log.info("connection closed", code=item.code, reason=item.reason)
        await self.socket.close(code=item.code, message=item.reason.encode())

    async def ping(self, every: float, now: float) -> None:
        """Send the exchange's ping if it is due."""
        if every and not self.ping_payload and now - max(self.ping_sent_at, self.client.opened_at) >= every:
            self.ping_payload, self.ping_sent_at = str(int(now * 1000)).encode(), now
            with contextlib.suppress(ConnectionError):
                await self.socket.ping(self.ping_payload)

    def missing_pong(self, now: float) -> str:
        """Return the violation of a client that did not answer a ping, or an empty string."""
        return "no pong" if self.ping_payload and now - self.ping_sent_at > _PONG_TIMEOUT else ""


class Gate:
    """How many connections the clients' address opened of late."""

    def __init__(self) -> None:
        self._opened: deque[float] = deque()

    def admits(self, rules: Rules, now: float) -> bool:
        """Count an attempt at `now`, in seconds. Return whether the exchange accepts it."""
        while self._opened and self._opened[0] <= now - rules.connects_period:
            self._opened.popleft()
        self._opened.append(now)
        return not rules.connects or len(self._opened) <= rules.connects
