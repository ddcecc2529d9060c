"""The catalog on an S3 bucket: timeouts of its client, and authorities of its own."""

import pickle
import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.query.iceberg.catalog import connect
from tests.certificates import Authority

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


class Quick(Slow):
    """Answer at once."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()


def test_a_bucket_with_an_authority_of_its_own_is_trusted_if_its_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "k2")
    authority = Authority("company")
    certificate, key = authority.issue("store", tmp_path / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Quick) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "catalog_uri": f"sqlite:///{tmp_path / 'catalog.db'}", "warehouse": "s3://k2/warehouse",
            "s3_endpoint": f"https://127.0.0.1:{server.server_address[1]}",
        }  # fmt: skip
        with pytest.raises(OSError, match=r"(?i)certificate|curlCode: 60"):
            len(connect(Platform.read(**settings), create=True)._load_file_io({}).new_input("s3://k2/a"))
        own = Platform.read(**settings, s3_ca_file=str(authority.write_certificate(tmp_path / "ca.crt")))
        file_io = connect(own)._load_file_io({})
        assert len(file_io.new_input("s3://k2/a")) == 4
        copied = pickle.loads(pickle.dumps(file_io.fs_by_scheme("s3", "k2")))  # as the process of a statement gets it
        assert copied.get_file_info("k2/a").size == 4
        server.shutdown()


def test_authorities_for_a_connection_without_tls_are_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"K2_S3_CA_FILE: .* used only with https"):
        Platform.read(s3_endpoint="http://minio:9000", s3_ca_file="/ca.crt")
    with pytest.raises(InvalidSpec, match=r"K2_CATALOG_CA_FILE: .* used only with https"):
        Platform.read(catalog_type="rest", catalog_uri="http://c", warehouse="s3://l", catalog_ca_file="/ca.crt")
    with pytest.raises(InvalidSpec, match=r"K2_CATALOG_CA_FILE: .* not used by a JDBC catalog"):
        Platform.read(catalog_ca_file="/ca.crt")
