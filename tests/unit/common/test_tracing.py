"""Traces: sent to the receiver that the environment names, named in log lines, and free of cost without one."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import structlog

from k2.common import logs, tracing
from k2.common.validation_errors import InvalidSpec
from tests.otlp_receiver import Receiver, attributes, traced


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with traced(monkeypatch, "part") as receiving:
        yield receiving


def test_a_span_arrives_with_its_parent_and_its_lines_name_it(received: Receiver, monkeypatch: pytest.MonkeyPatch):
    logs.configure("json", "info")
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    parent = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    with tracing.span("outer", {"k2.feed": "btc"}, parent), tracing.span("inner", {}):
        logs.get("part").info("within")
    logs.get("part").info("after")
    structlog.reset_defaults()
    tracing.shutdown()

    (service, outer), (_, inner) = received.named("outer") + received.named("inner")
    assert (service, attributes(outer)) == ("k2-part", {"k2.feed": "btc"})
    assert (outer.trace_id.hex(), outer.parent_span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert (inner.trace_id, inner.parent_span_id) == (outer.trace_id, outer.span_id)
    within, after = map(json.loads, stream.getvalue().splitlines())
    assert (within["trace_id"], within["span_id"]) == ("ab" * 16, inner.span_id.hex())
    assert "trace_id" not in after


def test_an_error_marks_the_span_without_credentials_or_a_traceback(received: Receiver):
    with pytest.raises(ValueError, match="no answer"), tracing.span("failing", {}):
        raise ValueError("no answer from https://user:secret@registry:8081\nsecond line")
    tracing.shutdown()
    ((_, failing),) = received.named("failing")
    assert (failing.status.code, failing.status.message) == (2, "ValueError: no answer from https://***@registry:8081")
    assert not failing.events


@pytest.mark.parametrize(
    ("environment", "requested"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_the_environment_decides(environment: dict[str, str], requested: bool):
    assert tracing.is_requested(environment) is requested


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, 'OTEL_TRACES_EXPORTER: "zipkin" is not allowed: must be otlp or none'),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            'OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is not allowed: must be http/protobuf; receivers take it on port 4318',
        ),
    ],
)
def test_what_cannot_be_done_is_refused(environment: dict[str, str], message: str):
    with pytest.raises(InvalidSpec) as error:
        tracing.is_requested(environment)
    assert str(error.value) == message


def test_without_a_receiver_nothing_is_imported():
    code = (
        "import sys; from k2.common import logs, tracing; logs.configure(); tracing.configure('part')\n"
        "with tracing.span('work', {}): logs.get('part').info('line')\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dead_receiver_delays_no_stop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(tracing, "_FLUSH_SECONDS", 0.2)
    tracing.configure("part")
    with tracing.span("work", {}):
        pass
    started = time.monotonic()
    tracing.shutdown()
    assert time.monotonic() - started < 3  # the exporter alone tries for ten seconds
