"""uvicorn, with limits that it lacks: a time for a request's headers, and connections too many that are told why."""

import asyncio
import signal
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from k2.query.api import memory
from k2.query.api.app import create
from k2.query.api.limits import crowded

if TYPE_CHECKING:
    from collections.abc import Callable

    from k2.common.platform import Platform
    from k2.query.api.settings import ApiSettings


class Patience(H11Protocol):
    """HTTP/1.1 that hangs up on a client whose request does not come to an end of its headers.

    uvicorn's own limit of connections answers in plain text, without a time to come back after.
    """

    seconds = 10.0
    places = 1024

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait."""
        super().connection_made(transport)
        if len(self.connections) > self.places:
            self.app = crowded(self.app)
        self._waiting: asyncio.TimerHandle | None = self.loop.call_later(self.seconds, self._give_up)

    def handle_events(self) -> None:
        """Waits for no headers while a request is answered, and for those of the next one from its first byte on."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._rest()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; of a new one, the first begin to wait for the rest."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._waiting is None:
            self._waiting = self.loop.call_later(self.seconds, self._give_up)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._rest()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """A websocket's headers are there."""
        self._rest()
        super().handle_websocket_upgrade(event)

    def _rest(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self.transport.close()


class _Serving(uvicorn.Server):
    """A server that says where it listens once it does."""

    tell: "Callable[[str], None] | None" = None

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Stops in order when it is told to. uvicorn's own would end the process as if it had been killed."""
        if threading.current_thread() is not threading.main_thread():
            return nullcontext()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        return nullcontext()

    async def startup(self, sockets: Any = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        if self.started and self.tell is not None:
            host, port, *_ = self.servers[0].sockets[0].getsockname()
            self.tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def run(serving: uvicorn.Server, tell: "Callable[[str], None]") -> int:
    """Serves until SIGTERM or SIGINT, and tells its URL when it can be asked. Returns 1 if it cannot listen there."""
    assert isinstance(serving, _Serving)
    memory.keep()
    serving.tell = tell
    try:
        with memory.settled():
            serving.run()
    except SystemExit:  # uvicorn's word for an address that it cannot have; it has logged why
        return 1
    return 0


def server(settings: "ApiSettings", platform: "Platform") -> uvicorn.Server:
    """The server, not yet running. Raises `InvalidSpec`."""
    protocol = type("Http", (Patience,), {"seconds": settings.header_seconds, "places": 4 * settings.requests})
    config = uvicorn.Config(
        create(settings, platform),
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="websockets-sansio",
        h11_max_incomplete_event_size=settings.header_bytes,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
        ws_max_size=64 * 1024,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    return _Serving(config)
