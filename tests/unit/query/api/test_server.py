"""A real server on a real socket: clients that stall, flood or disconnect do not affect the others."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.unit.query.conftest import Append, trade

Running = Callable[..., str]
Capture = pytest.CaptureFixture[str]
POST = b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ENDLESS_QUERY = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def eventually(holds: Callable[[], bool], within: float = 60) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_a_client_with_endless_headers_is_disconnected(running: Running) -> None:
    url = running(header_timeout=1.0)
    with connect(url) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - the server may reset or close
            for _ in range(600):
                slow.sendall(b"X-Slow: 1\r\n")
                time.sleep(0.1)
        assert time.monotonic() - began < 50


def test_a_silent_client_is_disconnected(running: Running) -> None:
    with connect(running(header_timeout=1.0)) as silent:
        assert silent.recv(1) == b""


def test_a_reused_connection_is_not_disconnected(running: Running) -> None:
    url = running(header_timeout=1.0)
    with httpx.Client(base_url=url) as client:
        for _ in range(3):
            assert client.get("/healthz").status_code == 200
            time.sleep(0.7)


def test_oversized_headers_are_rejected(running: Running) -> None:
    with connect(running()) as big:
        big.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
        assert big.recv(100).startswith(b"HTTP/1.1 400")


def test_a_body_that_does_not_arrive_gets_408(running: Running) -> None:
    with connect(running(header_timeout=1.0)) as slow:
        slow.sendall(POST + b"Content-Length: 100\r\n\r\n{")
        assert b" 408 " in slow.recv(1000).split(b"\r\n")[0]


def test_a_query_is_cancelled_when_its_client_disconnects(running: Running, append: Append) -> None:
    append([trade(1)])
    url = running(max_queries=1, query_timeout=120)
    body = b'{"statement": "' + ENDLESS_QUERY.encode() + b'"}'
    with connect(url) as leaving:
        leaving.sendall(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert eventually(lambda: metric(url, "k2_api_queries_running") == 1)
    assert eventually(lambda: metric(url, "k2_api_queries_running") == 0)
    assert httpx.get(f"{url}/v1/trades", timeout=60).status_code == 200


def test_queued_statements_do_not_block_other_queries(running: Running, append: Append) -> None:
    append([trade(1)])
    url = running(max_statements=1, max_queries=2, query_timeout=120)
    body = b'{"statement": "' + ENDLESS_QUERY.encode() + b'"}'
    with connect(url) as first, connect(url) as second:
        for leaving in (first, second):
            leaving.sendall(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert eventually(lambda: metric(url, "k2_api_queries_waiting") == 1)
        assert metric(url, "k2_api_queries_running") == 1
        assert httpx.get(f"{url}/v1/trades", timeout=60).status_code == 200
        first.close()
        assert eventually(lambda: metric(url, "k2_api_queries_waiting") == 0)
        assert metric(url, "k2_api_queries_running") == 1
    assert eventually(lambda: metric(url, "k2_api_queries_running") == 0)


def post(body: str, accept: str) -> bytes:
    return POST + f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def deaf_client(url: str, request: bytes) -> socket.socket:
    client = connect(url)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)  # a fixed size, which does not grow
    client.sendall(request)
    return client


def test_a_client_that_does_not_read_is_disconnected(running: Running, append: Append, capfd: Capture) -> None:
    append([trade(number, number / 1000, vendor_data="x" * 500) for number in range(40_000)])
    url = running(send_timeout=1.0)
    request = b"GET /v1/trades HTTP/1.1\r\nHost: localhost\r\nAccept: application/vnd.apache.arrow.stream\r\n\r\n"
    with deaf_client(url, request):
        assert eventually(lambda: metric(url, "k2_api_requests_running") == 2)  # with the one that asks
        assert eventually(lambda: metric(url, "k2_api_requests_running") == 1)
        assert httpx.get(f"{url}/healthz").status_code == 200
    logged = str(capfd.readouterr())
    assert logged.count("response cut") == 1
    assert "Traceback" not in logged


def test_clients_that_do_not_read_hold_no_slot(running: Running, append: Append) -> None:
    append([trade(1)])
    url = running(send_timeout=300.0, max_statements=1)
    csv = post('{"statement": "SELECT range, repeat(\'x\', 1000) AS x FROM range(60000)"}', "text/csv")
    with ExitStack() as deaf:
        clients = [deaf.enter_context(deaf_client(url, csv)) for _ in range(3)]
        answer = httpx.post(f"{url}/v1/sql", json={"statement": "SELECT 1 AS one"}, timeout=60)
        assert (answer.status_code, answer.json()["data"]) == (200, [{"one": 1}])
        assert eventually(lambda: metric(url, "k2_api_queries_running") == 0)
        assert metric(url, "k2_api_requests_running") == 4
        answered = bytearray()
        while not answered.endswith(b"0\r\n\r\n"):
            answered += clients[0].recv(1 << 20)
    assert all(b"\n%d,xxx" % row in answered for row in range(0, 60_000, 1000))  # from memory and disk, in order
    assert answered.count(b"x" * 500) >= 60_000


def test_a_result_without_room_leaves_its_slot_to_those_who_wait(
    running: Running, append: Append, capfd: Capture
) -> None:
    append([trade(1)])
    url = running(send_timeout=300.0, max_statements=1, max_unread_bytes=0)
    csv = post('{"statement": "SELECT range, repeat(\'x\', 1000) AS x FROM range(900000)"}', "text/csv")
    with deaf_client(url, csv) as deaf:
        assert eventually(lambda: metric(url, "k2_api_queries_running") == 1)
        answer = httpx.post(f"{url}/v1/sql", json={"statement": "SELECT 1 AS one"}, timeout=60)
        assert answer.status_code == 200
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: deaf.recv(1 << 20), b""))
    assert "reads too slowly" in str(capfd.readouterr())


def test_requests_over_the_limits_are_rejected_with_retry_after(running: Running, append: Append) -> None:
    append([trade(1)])
    url = running(max_requests=4, max_queries=2, max_queries_per_client=2, max_queued=1, rate_anonymous="100000/minute")
    busy = threading.Event()

    def ask(number: int) -> int:
        busy.wait()
        answer = httpx.get(f"{url}/v1/trades?limit={number + 1}", timeout=60)
        if answer.status_code != 200:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"]
        return answer.status_code

    statuses: set[int] = set()
    with ThreadPoolExecutor(24) as pool:
        for wave in range(10):  # on a busy machine a wave may come drop by drop
            futures = [pool.submit(ask, 48 * wave + number) for number in range(48)]
            busy.set()
            statuses |= {future.result() for future in futures}
            if len(statuses) > 1:
                break
            busy.clear()
    assert 200 in statuses
    assert statuses <= {200, 429, 503}
    assert len(statuses) > 1
    assert httpx.get(f"{url}/v1/trades", timeout=60).status_code == 200


def test_connections_over_the_limit_get_503_except_for_health_checks(running: Running) -> None:
    url = running(max_requests=1)
    with ExitStack() as connections:
        for _ in range(4):
            connections.enter_context(connect(url))
        answer = httpx.get(f"{url}/openapi.json")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "too many connections; retry in a moment"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"]
        assert answer.headers["connection"] == "close"
        assert httpx.get(f"{url}/healthz").status_code == 200
    assert eventually(lambda: httpx.get(f"{url}/openapi.json").status_code == 200)


def test_metrics_are_labelled_by_route_template(running: Running, append: Append) -> None:
    append([trade(1)])
    url = running()
    httpx.get(f"{url}/v1/dead-letters/topic/1/2", timeout=60)
    httpx.get(f"{url}/no/such/secret", timeout=60)
    text = httpx.get(f"{url}/metrics").text
    assert 'route="/v1/dead-letters/{topic}/{partition}/{offset}",status="404"' in text
    assert 'route="other",status="404"' in text
    assert "secret" not in text


@pytest.mark.parametrize(("trusted", "addresses"), [("", 1), ("10.0.0.1", 1), ("127.0.0.0/8", 3)])
def test_a_forwarded_address_counts_only_if_a_configured_proxy_names_it(
    running: Running, trusted: str, addresses: int
) -> None:
    url = running(rate_anonymous="2/minute", trusted_proxies=trusted)
    statuses = [
        httpx.get(f"{url}/v1/symbols", headers={"X-Forwarded-For": f"192.0.2.{number}"}, timeout=60).status_code
        for number in range(3)
        for _ in range(2)
    ]
    assert sum(status != 429 for status in statuses) == 2 * addresses
