"""HTTP endpoints that are there before kopf is: /metrics and /readyz, and /healthz of a process that stands by."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any, Final
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

_OK: Final = "200 OK"
_UNAVAILABLE: Final = "503 Service Unavailable"

_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a client that does not read must not keep others from their answers


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing: probes come every few seconds."""


def serve_metrics(port: int, problem: Callable[[], str]) -> None:
    """Serve /metrics, and /readyz: 503 while there is a problem."""
    metrics = make_wsgi_app()

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/readyz":
            return _answer(start, problem())
        answer: Iterable[bytes] = metrics(environ, start)
        return answer

    server = make_server("0.0.0.0", port, application, _Server, _Silent)  # noqa: S104 - inside the pod
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


@contextmanager
def standing_by(liveness: str) -> Iterator[None]:
    """Answer /healthz at a URL, as kopf will."""
    address = urlsplit(liveness)
    if not address.port:
        yield
        return

    def application(_: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return _answer(start, "")

    with make_server(address.hostname or "", address.port, application, _Server, _Silent) as server:
        thread = threading.Thread(target=server.serve_forever, name="standby", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _answer(start: Callable[..., Any], problem: str) -> list[bytes]:
    start(_UNAVAILABLE if problem else _OK, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{problem or 'ok'}\n".encode()]
