"""What the jobs say of themselves over HTTP: /metrics, /status, /healthz."""

import json
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, generate_latest

from k2.jobs.telemetry.metrics import LayerState

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's spelling
        """Says nothing."""


def serve(layers: Iterable[LayerState], registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    """Starts the server in a thread. Raises OSError if the port is taken."""
    known = list(layers)

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return _answer(start_response, "text/plain; version=0.0.4", generate_latest(registry))
            case "/status":
                return _answer(start_response, "application/json", json.dumps(document(known)).encode())
            case "/healthz":
                return _answer(start_response, "text/plain", b"ok\n")
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"try /metrics, /status or /healthz\n"]

    server = make_server(host, port, application, _Server, _Quiet)
    Thread(target=server.serve_forever, daemon=True, name="status").start()
    return server


def document(layers: Iterable[LayerState]) -> dict[str, Any]:
    """Every layer, by feed."""
    feeds: dict[str, Any] = {}
    for state in layers:
        feeds.setdefault(state.feed, {})[state.layer] = state.document()
    return {"feeds": feeds}


def _answer(start_response: StartResponse, kind: str, body: bytes) -> list[bytes]:
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
