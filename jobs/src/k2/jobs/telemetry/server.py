"""HTTP server of a jobs process: /metrics, /status, /healthz."""

from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from k2.jobs.telemetry.metrics import LayerState
from k2.schemas.status import JobsStatus, LayerStatus

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's spelling
        """Suppress the access log."""


def serve(layers: Iterable[LayerState], registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    """Start the server in a thread. Raises OSError if the port is in use."""
    states = list(layers)
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, start_response)  # type: ignore[no-any-return]
            case "/status":
                return _respond(start_response, "application/json", msgspec.json.encode(jobs_status(states)))
            case "/healthz":
                return _respond(start_response, "text/plain", b"ok\n")
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"try /metrics, /status or /healthz\n"]

    server = make_server(host, port, application, ThreadingWSGIServer, _Quiet)
    Thread(target=server.serve_forever, daemon=True, name="status").start()
    return server


def jobs_status(layers: Iterable[LayerState]) -> JobsStatus:
    """Return the `/status` document: every layer, by feed and name."""
    feeds: dict[str, dict[str, LayerStatus]] = {}
    for state in layers:
        feeds.setdefault(state.feed, {})[state.name] = state.status()
    return JobsStatus(feeds=feeds)


def _respond(start_response: StartResponse, kind: str, body: bytes) -> list[bytes]:
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
