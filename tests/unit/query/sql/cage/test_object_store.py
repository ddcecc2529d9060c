"""Files in an object store are read by the process of the statement, through the one port that it may connect to."""

import io
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import S3FileSystem

from k2.query.errors import Unavailable
from k2.query.sql.cage.job import Job, RemoteFiles
from k2.query.sql.cage.limits import Limits
from k2.query.sql.cage.pool import Cage

STATEMENT = "SELECT sum(a)::BIGINT AS total FROM t WHERE a > 5"


class Store(BaseHTTPRequestHandler):
    """Answers every path with the same Parquet file."""

    protocol_version = "HTTP/1.1"
    content = b""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        part, byte_range = self.content, self.headers.get("Range")
        if byte_range:
            first, last = byte_range.removeprefix("bytes=").split("-")
            part = part[int(first) : int(last) + 1]
        self.send_response(206 if byte_range else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if with_body:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(1000))}), sink)
    handler = type("Handler", (Store,), {"content": sink.getvalue()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("allowed", [True, False])
def test_an_object_store_is_read_only_where_its_port_is_allowed(port: int, allowed: bool) -> None:
    store = S3FileSystem(
        access_key="key",
        secret_key="secret",
        endpoint_override=f"http://127.0.0.1:{port}",
        region="us-east-1",
        connect_timeout=5,
        request_timeout=10,
    )
    files = RemoteFiles(["lake/part.parquet"], pa.schema([("a", pa.int64())]), store)
    with closing(Cage(Limits(300_000_000), warm=0, network=port if allowed else port + 1)) as cage:
        process = cage.process()
        process.parse(STATEMENT)
        job = Job(STATEMENT, remote={"t": files})
        if allowed:
            assert process.run(job).read_all().to_pylist() == [{"total": sum(range(6, 1000))}]
        else:
            with pytest.raises(Unavailable):
                process.run(job).read_all()
