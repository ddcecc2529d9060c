"""A span for each query, as part of the trace of the client that names one."""

import pytest
from starlette.testclient import TestClient

from k2.common import tracing
from tests.otlp_receiver import attributes, traced
from tests.unit.query.conftest import Append, trade


def test_a_query_is_a_span_of_the_trace_of_its_client(api: TestClient, append: Append, monkeypatch: pytest.MonkeyPatch):
    append([trade(1)])
    with traced(monkeypatch, "api") as received:
        trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        assert api.get("/v1/trades", params={"symbol": "BTCUSDT"}, headers=trace).status_code == 200
        assert api.get("/healthz").status_code == 200
        tracing.shutdown()
    ((service, span),) = received.spans
    assert (service, span.name) == ("k2-api", "query /v1/trades")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert attributes(span) == {"http.request.method": "GET", "http.route": "/v1/trades"}
