"""The uvicorn server, with limits that uvicorn lacks: a header timeout, and a 503 for connections over the limit."""

import asyncio
import signal
import socket
import struct
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from k2.common import logs
from k2.common.validation_errors import redact
from k2.query.api import memory
from k2.query.api.app import create
from k2.query.api.errors import ResponseCut
from k2.query.api.limits import overload_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from k2.common.platform import Platform
    from k2.query.api.settings import ApiSettings

_RESET: Final = struct.pack("ii", 1, 0)  # wait 0 seconds for the client to take what is left
_MAX_REASON: Final = 300  # characters
_log = logs.get("api")


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP/1.1 that disconnects a client whose request headers do not arrive in time.

    uvicorn's own connection limit responds in plain text, without Retry-After.
    """

    timeout = 10.0  # seconds
    max_connections = 1024

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the header timeout."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app = overload_app(self.app)
        self.app = resetting_app(self.app, self)
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.timeout, self._on_timeout)

    def handle_events(self) -> None:
        """Cancel the timeout once the headers are complete."""
        previous = self.cycle
        super().handle_events()
        if self.cycle is not previous:
            self._cancel_timer()

    def data_received(self, data: bytes) -> None:
        """Start the header timeout at the first byte of a new request."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._timer is None:
            self._timer = self.loop.call_later(self.timeout, self._on_timeout)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout."""
        self._cancel_timer()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Cancel the timeout: the headers of the websocket are complete."""
        self._cancel_timer()
        super().handle_websocket_upgrade(event)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


def resetting_app(app: "ASGIApp", connection: H11Protocol) -> "ASGIApp":
    """Return the application for a connection that is reset when its response ends early.

    The client cannot take the response for complete, and one that does not read keeps no socket. uvicorn cancels the
    responses in progress when it has waited for them long enough, and would log each with a traceback.
    """

    async def respond(scope: "Scope", receive: "Receive", send: "Send") -> None:
        try:
            await app(scope, receive, send)
        except (ResponseCut, asyncio.CancelledError) as error:
            why = redact(str(error))[:_MAX_REASON] if isinstance(error, ResponseCut) else "the server stops"
            _log.warning("response cut", path=scope["path"], why=why)
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.transport.abort()
            connection.cycle.disconnected = True  # uvicorn would learn it in the next iteration of the loop

    return respond


class _Server(uvicorn.Server):
    """A server that reports its URL once it listens."""

    on_started: "Callable[[str], None] | None" = None

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Shut down gracefully on SIGINT and SIGTERM. uvicorn itself would re-raise the signal and die of it."""
        if threading.current_thread() is not threading.main_thread():
            return nullcontext()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        return nullcontext()

    async def startup(self, sockets: Any = None) -> None:
        """Start listening."""
        await super().startup(sockets)
        if self.started and self.on_started is not None:
            host, port, *_ = self.servers[0].sockets[0].getsockname()
            self.on_started(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def run(http_server: uvicorn.Server, on_started: "Callable[[str], None]") -> int:
    """Serve until SIGTERM or SIGINT; call `on_started` with the URL. Returns 1 if the address cannot be bound."""
    assert isinstance(http_server, _Server)
    memory.retain_freed_memory()
    http_server.on_started = on_started
    try:
        with memory.frozen_heap():
            http_server.run()
    except SystemExit:  # how uvicorn reports an address that it cannot bind; it has logged the reason
        return 1
    return 0


def server(settings: "ApiSettings", platform: "Platform") -> uvicorn.Server:
    """Create the server without starting it. Raises `InvalidSpec`."""
    protocol = type(
        "Http",
        (HeaderTimeoutProtocol,),
        {"timeout": settings.header_timeout, "max_connections": 4 * settings.max_requests},
    )
    config = uvicorn.Config(
        create(settings, platform),
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="websockets-sansio",
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,  # seconds; then responses in progress are cut, and statements end
        ws_max_size=64 * 1024,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),  # the address of a client is that of its connection otherwise
        forwarded_allow_ips=list(settings.trusted_proxies),
        access_log=False,
        log_config=None,
    )
    return _Server(config)
