"""A receiver of OTLP over HTTP: keeps the spans that processes send, as `(service, span)`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from k2.common import tracing


class Receiver:
    """What has arrived, and the variables with which a process sends it here."""

    def __init__(self, url: str) -> None:
        self.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        self.spans: list[tuple[str, Span]] = []

    def named(self, name: str) -> list[tuple[str, Span]]:
        """Return the spans of this name, with their services."""
        return [(service, span) for service, span in self.spans if span.name == name]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Receive on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces", self.path
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in request.resource_spans:
                service = attributes(resource.resource)["service.name"]
                received.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def traced_children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Trace every process that starts from now on."""
    with receiver() as receiving:
        for name, value in receiving.environment.items():
            monkeypatch.setenv(name, value)
        yield receiving


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch, component: str) -> Iterator[Receiver]:
    """Trace this process; `tracing.shutdown` sends what is left."""
    with traced_children(monkeypatch) as receiving:
        tracing.configure(component)
        try:
            yield receiving
        finally:
            tracing.shutdown()


def attributes(of: object) -> dict[str, str]:
    """Return the text attributes of a span or resource."""
    return {pair.key: pair.value.string_value for pair in of.attributes}
