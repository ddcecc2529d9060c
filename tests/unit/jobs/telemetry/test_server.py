"""The status server of a jobs process."""

import msgspec
import pytest
from httpx2 import Client
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from k2.jobs.telemetry import metrics, server
from k2.schemas.status import JobsStatus


@pytest.fixture
def client():
    layers = [metrics.LayerState("gold", channel, "binance", "spot", 10.0) for channel in ("trades", "book")]
    layers.append(metrics.LayerState("gaps", "", "binance", "spot", 10.0))
    layers[0].record_batch(0.5)
    started = server.serve(layers, metrics.registry(layers), "127.0.0.1", 0)
    with Client(base_url=f"http://127.0.0.1:{started.server_port}") as client:
        yield client
    started.shutdown()
    started.server_close()


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            openmetrics.text_string_to_metric_families,
        ),
    ],
)
def test_metrics_are_encoded_as_the_client_accepts(client, accept, content_type, parse):
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.headers["Content-Type"] == content_type
    families = {family.name: family for family in parse(response.text)}
    assert families["k2_layer_batch_processing_seconds"].samples
    running = {(sample.labels["layer"], sample.labels["channel"]) for sample in families["k2_layer_running"].samples}
    assert running == {("gold", "trades"), ("gold", "book"), ("gaps", "")}


def test_status_and_liveness_are_served_and_nothing_else(client):
    status = msgspec.json.decode(client.get("/status").content, type=JobsStatus)
    assert list(status.feeds["spot"]) == ["gold", "book/gold", "gaps"]
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/none").status_code == 404
