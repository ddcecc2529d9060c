"""Traces with OpenTelemetry: off unless the standard OTEL_ variables name a receiver.

A span covers one unit of work, such as a micro-batch or a repair, never one message. While tracing is off, `span`
does nothing and OpenTelemetry is not imported. Variables:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import atexit
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from k2.common.validation_errors import InvalidSpec, Problem, redact

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_DISABLED: Final = "OTEL_SDK_DISABLED"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_UNNAMED: Final = "unknown_service"  # OpenTelemetry's name for a service without one

Attribute = str | int | float | bool

_FLUSH_SECONDS: Final = 5.0
_MOST_CHARACTERS: Final = 200  # of an error


@dataclass(slots=True)
class _Process:
    """The tracing of this process; both are None while it is off."""

    provider: "TracerProvider | None" = None
    tracer: "Tracer | None" = None


_process: Final = _Process()


def is_requested(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the environment asks for traces. Raises `InvalidSpec` for what K2 cannot do."""
    exporter = environ.get(_EXPORTER, "").strip().lower()
    if environ.get(_DISABLED, "").strip().lower() == "true" or exporter == "none":
        return False
    if exporter not in {"", "otlp"}:
        raise InvalidSpec([Problem(_EXPORTER, exporter, "must be otlp or none")])
    if not exporter and not any(environ.get(name) for name in ENDPOINTS):
        return False
    for name in _PROTOCOLS:
        if protocol := environ.get(name):
            if protocol != _PROTOCOL:
                raise InvalidSpec([Problem(name, protocol, f"must be {_PROTOCOL}; receivers take it on port 4318")])
            break
    return True


def configure(component: str) -> None:
    """Send the spans of this process to the receiver that the environment names, if it names one.

    `component` is the process, such as `ingest`: its service is `k2-ingest`, unless the environment names another.
    Raises `InvalidSpec`.
    """
    if _process.tracer is not None or not is_requested():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith(_UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: f"k2-{component}"}))
    _process.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _process.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _process.tracer = _process.provider.get_tracer("k2")
    atexit.register(shutdown)


def shutdown() -> None:
    """End tracing: send what is left, for at most five seconds, since a dead receiver must not delay a stop."""
    if _process.provider is None:
        return
    sending = threading.Thread(target=_process.provider.shutdown, daemon=True)
    _process.provider, _process.tracer = None, None
    sending.start()
    sending.join(_FLUSH_SECONDS)


@contextmanager
def span(name: str, attributes: Mapping[str, Attribute], parent: Mapping[str, str] | None = None) -> Iterator[None]:
    """Trace a unit of work, as part of the one around it, or of that which the HTTP headers in `parent` name."""
    if _process.tracer is None:
        yield
        return
    from opentelemetry.trace import Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(parent) if parent is not None else None
    with _process.tracer.start_as_current_span(
        name, context, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            # Not the SDK's record, which is the whole traceback and whatever credentials its messages hold.
            first_line = f"{type(error).__name__}: {error}".partition("\n")[0]
            current.set_status(Status(StatusCode.ERROR, redact(first_line)[:_MOST_CHARACTERS]))
            raise


def log_fields() -> dict[str, str]:
    """Return the ids of the current trace and span, in hexadecimal digits, for a log line; empty without a span."""
    if _process.tracer is None:
        return {}
    from opentelemetry import trace

    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(current.trace_id), "span_id": trace.format_span_id(current.span_id)}
