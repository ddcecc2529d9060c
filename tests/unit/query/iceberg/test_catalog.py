"""The catalog on an S3 bucket: timeouts of its client."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from k2.common.platform import Platform
from k2.query.iceberg.catalog import connect

DELAY_SECONDS = 4.5  # the AWS client's default timeout is 3 s, with two retries


class Slow(BaseHTTPRequestHandler):
    """Answer for a file of four bytes; delay each of the first three responses."""

    requests = 0

    def do_HEAD(self) -> None:
        type(self).requests += 1
        if self.requests <= 3:
            time.sleep(DELAY_SECONDS)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Do not print requests."""


@pytest.fixture
def slow_bucket() -> Iterator[str]:
    Slow.requests = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_slow_bucket_does_not_time_out(slow_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "k2-secret")
    platform = Platform.read(
        catalog_uri=f"sqlite:///{tmp_path / 'catalog.db'}", warehouse="s3://k2/warehouse", s3_endpoint=slow_bucket
    )
    catalog = connect(platform, create=True)
    file = catalog._load_file_io({}).new_input("s3://k2/warehouse/a")
    assert len(file) == 4
    assert Slow.requests == 1
