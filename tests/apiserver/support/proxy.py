"""HTTP proxy in front of the API server that injects faults. Clients speak plain HTTP to it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.apiserver.support.servers import Api

_HOP = frozenset({"transfer-encoding", "connection", "content-length", "keep-alive"})


@dataclass(frozen=True)
class Request:
    """One request."""

    method: str
    path: str
    at: float = field(default_factory=time.monotonic)

    @property
    def is_apply(self) -> bool:
        """Whether it is the operator's server-side apply of a child."""
        return self.method == "PATCH" and "fieldManager=" in self.path and "/status" not in self.path

    @property
    def is_watch(self) -> bool:
        """Whether it is a watch."""
        return "watch=true" in self.path


@dataclass(frozen=True)
class Fault:
    """A fault of one request: a delay, an answer by the proxy itself, or a lost answer."""

    delay: float = 0.0
    code: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    lost: bool = False
    release: threading.Event | None = None  # the answer is delayed until this is set


class Proxy:
    """The recorded requests, and the rule that assigns faults."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.requests: list[Request] = []
        self.rule: Callable[[Request], Fault | None] = lambda _: None
        self._lock = threading.Lock()
        self._streams: list[Stream] = []

    def applies(self) -> list[Request]:
        """Return the applies of children so far."""
        return [request for request in list(self.requests) if request.is_apply]

    def stall(self) -> None:
        """Stop all open watches from delivering events, without closing them. New ones work."""
        with self._lock:
            for stream in self._streams:
                stream.stalled = True

    def inject(self, code: int) -> None:
        """Send an ERROR event to every open watch."""
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "injected"}
        line = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
        with self._lock:
            for stream in self._streams:
                with suppress(OSError):
                    stream.send(line)

    def add(self, stream: "Stream") -> None:
        """Register an open watch."""
        with self._lock:
            self._streams.append(stream)

    def remove(self, stream: "Stream") -> None:
        """Unregister a closed watch."""
        with self._lock:
            self._streams.remove(stream)

    def close(self) -> None:
        """Close the open watches."""
        with self._lock:
            for stream in self._streams:
                stream.stop()


class Stream:
    """One open watch."""

    def __init__(self, file: Any, upstream: http.client.HTTPSConnection) -> None:
        self.stalled = False
        self._file = file
        self._socket = upstream.sock
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        """Send one chunk to the client."""
        with self._lock:
            self._file.write(b"%x\r\n%s\r\n" % (len(data), data))
            self._file.flush()

    def stop(self) -> None:
        """Shut down the connection to the server, which unblocks its reader."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _any(self) -> None:
        request = Request(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        fault = self.proxy.rule(request) or Fault()
        self.proxy.requests.append(request)
        time.sleep(fault.delay)
        if fault.code:
            status = {"kind": "Status", "apiVersion": "v1", "code": fault.code, "message": "injected by the test"}
            self._answer(fault.code, fault.headers, json.dumps(status).encode())
            return
        address = urlsplit(self.proxy.api.url)
        upstream = http.client.HTTPSConnection(
            address.hostname or "", address.port, timeout=120, context=self.proxy.api.trust()
        )
        try:
            forwarded = {
                name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}
            }
            upstream.request(self.command, self.path, body or None, forwarded)
            response = upstream.getresponse()
            if request.is_watch and response.status == 200:
                self._stream(response, upstream)
                return
            data = response.read()
        finally:
            upstream.close()
        if fault.release is not None:
            fault.release.wait(30)
        if fault.lost:
            self.close_connection = True
            return
        self._answer(response.status, tuple(response.getheaders()), data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - names of the base class

    def _answer(self, status: int, headers: tuple[tuple[str, str], ...], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, response: http.client.HTTPResponse, upstream: http.client.HTTPSConnection) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        stream = Stream(self.wfile, upstream)
        self.proxy.add(stream)
        try:
            with suppress(OSError, http.client.HTTPException):
                while data := response.read1(65536):
                    if not stream.stalled:
                        stream.send(data)
        finally:
            self.proxy.remove(stream)

    def log_message(self, *_: Any) -> None:
        """Log nothing: requests are in `Proxy.requests`."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of clients that a test kills."""


@contextmanager
def proxied(api: Api) -> Iterator[tuple[Proxy, str]]:
    """Run a proxy; yield it and its URL."""
    proxy = Proxy(api)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            proxy.close()
            server.shutdown()
            thread.join(5)
