"""The check of `helm test k2-platform`: it reports each service, and fails if one is unreachable."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.charts.rendering import CHARTS, needs_helm, one, render

pytestmark = needs_helm

CHECK = CHARTS / "k2-platform/files/check.py"


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in {"/apis/ccompat/v7/subjects", "/readyz"} else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def services() -> Iterator[dict[str, str]]:
    """Run stand-in services, and return the environment of helm test with their addresses."""
    server = HTTPServer(("127.0.0.1", 0), _Pages)
    Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        yield {
            "K2_KAFKA_BOOTSTRAP": f"{address},{address}",
            "K2_REGISTRY_URL": f"http://127.0.0.1:{server.server_port}/apis/ccompat/v7",
            "K2_CATALOG_URI": f"postgresql://{address}/iceberg",
            "K2_S3_ENDPOINT": f"http://{address}",
            "K2_QUERY_URL": f"http://127.0.0.1:{server.server_port}",
        }
    server.shutdown()
    server.server_close()


def check(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the check of the helm test pod."""
    command = [sys.executable, "-c", CHECK.read_text()]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)


def test_helm_test_succeeds_if_all_services_are_reachable(services: dict[str, str]):
    pod = one(render("k2-platform"), "Pod")["spec"]["containers"][0]
    assert pod["args"] == [CHECK.read_text()]
    assert {variable["name"] for variable in pod["env"]} == set(services)
    done = check(services)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("K2_KAFKA_BOOTSTRAP", "127.0.0.1:1", "kafka: 127.0.0.1:1 is unreachable"),
        ("K2_CATALOG_URI", "postgresql://127.0.0.1:1/iceberg", "catalog: 127.0.0.1:1 is unreachable"),
        ("K2_S3_ENDPOINT", "http://127.0.0.1:1", "s3: 127.0.0.1:1 is unreachable"),
        ("K2_REGISTRY_URL", "http://127.0.0.1:1", "registry: http://127.0.0.1:1/subjects failed"),
        ("K2_QUERY_URL", "http://127.0.0.1:1", "query: http://127.0.0.1:1/readyz failed"),
    ],
)
def test_helm_test_fails_and_names_an_unreachable_service(
    services: dict[str, str], variable: str, value: str, message: str
):
    done = check(services | {variable: value})
    assert done.returncode == 1
    assert message in done.stdout
