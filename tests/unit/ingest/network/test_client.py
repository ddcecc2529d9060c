"""Proxies, certificates and refusals of the one client, over real sockets and real TLS."""

import json
import traceback

import aiohttp
import pytest

from k2.common.validation_errors import InvalidSpec
from k2.ingest.__main__ import main
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges.base import Limits, Request, RestBudget
from k2.ingest.network.client import HandshakeRefused, MessageType, ProxyRefused, open_client
from k2.ingest.network.limits import AddressLimits
from k2.schemas.feed.model import API_VERSION

HOST = "exchange.test"


async def echoed(http, url: str) -> bytes:
    async with await http.ws_connect(url) as socket:
        await socket.send_str("hello")
        message = await socket.receive(5)
        assert message.type is MessageType.TEXT
        return message.data


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
async def test_websocket_and_rest_go_through_the_proxy(name, proxy, exchange, authority, monkeypatch):
    through, port = await proxy(), await exchange()
    monkeypatch.setenv(name, f"http://127.0.0.1:{through.port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with open_client() as http:
        assert await echoed(http, f"wss://{HOST}:{port}/ws") == b"hello"
        reply = await http.get(f"https://{HOST}:{port}/x", {"a": "b"})
    assert (reply.status, reply.body) == (200, b"answered")
    assert through.requests == [f"CONNECT {HOST}:{port} HTTP/1.1"] * 2


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
async def test_plain_rest_goes_through_its_own_proxy(name, proxy, exchange, monkeypatch):
    through, port = await proxy(), await exchange(plain=True)
    monkeypatch.setenv(name, f"http://127.0.0.1:{through.port}")
    async with open_client() as http:
        assert (await http.get(f"http://{HOST}:{port}/x", {})).body == b"answered"
    assert through.requests == [f"GET http://{HOST}:{port}/x HTTP/1.1"]


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
async def test_what_no_proxy_names_is_reached_directly(name, proxy, exchange, authority, monkeypatch):
    through, port = await proxy(), await exchange()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{through.port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv(name, f".test:{port}")
    async with open_client() as http:
        assert await echoed(http, f"wss://127.0.0.1:{port}/ws") == b"hello"
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await http.get(f"https://{HOST}:{port}/x", {})
        assert through.requests == []


async def test_a_proxy_with_a_password_is_sent_it_and_no_error_shows_it(proxy, exchange, authority, monkeypatch):
    through, port = await proxy("user:word"), await exchange()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@127.0.0.1:{through.port}")
    async with open_client() as http:
        assert await echoed(http, f"wss://{HOST}:{port}/ws") == b"hello"
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:wrong-word@127.0.0.1:{through.port}")
    async with open_client() as http:
        words = r"proxy http://\*\*\*@127\.0\.0\.1:\d+ answered HTTP 407"
        with pytest.raises(ProxyRefused, match=words) as refused_websocket:
            await http.ws_connect(f"wss://{HOST}:{port}/ws")
        with pytest.raises(ProxyRefused, match=words) as refused_request:
            await http.get(f"https://{HOST}:{port}/x", {})
    for refusal in (refused_websocket, refused_request):
        assert "wrong-word" not in "".join(traceback.format_exception(refusal.value))


async def test_a_proxy_that_does_not_answer_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:word@127.0.0.1:1")
    async with open_client() as http:
        with pytest.raises(aiohttp.ClientProxyConnectionError, match=r"127\.0\.0\.1:1") as failure:
            await http.ws_connect(f"wss://{HOST}/ws")
    assert "word" not in str(failure.value) + repr(failure.value)


async def test_a_server_of_a_private_authority_is_trusted_only_with_its_certificate(exchange, authority, monkeypatch):
    port = await exchange()
    async with open_client() as http:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(f"https://127.0.0.1:{port}/x", {})
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.ws_connect(f"wss://127.0.0.1:{port}/ws")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with open_client() as http:
        assert (await http.get(f"https://127.0.0.1:{port}/x", {})).status == 200
        assert await echoed(http, f"wss://127.0.0.1:{port}/ws") == b"hello"


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_a_file_without_certificates_is_refused_by_name(content, tmp_path, monkeypatch):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(InvalidSpec, match=r"SSL_CERT_FILE: .*ca\.pem.* must be a file with certificates"):
        async with open_client():
            pass


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTPS_PROXY", "socks5://user:word@proxy:1080", "HTTPS_PROXY: "),
        ("SSL_CERT_FILE", "/nonexistent/ca.pem", "SSL_CERT_FILE: "),
    ],
)
def test_the_process_refuses_an_unusable_environment_at_start_in_one_line(
    name, value, words, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "feed.yaml"
    spec = {"exchange": "binance", "symbols": ["BTCUSDT"]}
    document = {"apiVersion": API_VERSION, "kind": "ExchangeFeed", "metadata": {"name": "spot"}, "spec": spec}
    file.write_text(json.dumps(document))
    monkeypatch.setattr("sys.argv", ["k2.ingest", "--feed", str(file)])
    monkeypatch.setenv(name, value)
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(words)
    assert "word@" not in line


async def test_a_refused_handshake_says_the_status_and_when_to_come_back(exchange):
    port = await exchange(429, plain=True)
    async with open_client() as http:
        with pytest.raises(HandshakeRefused, match="HTTP 429") as refusal:
            await http.ws_connect(f"ws://127.0.0.1:{port}/other")
    assert (refusal.value.status, refusal.value.retry_after) == (429, "7")


@pytest.mark.usefixtures("no_waits")
async def test_a_451_names_the_page_that_helps(exchange):
    port, limits = await exchange(451, plain=True), AddressLimits(RestBudget(1000, 1000), Limits())
    async with open_client() as http:
        with pytest.raises(HandshakeRefused, match=r"HTTP 451.*docs/how-to/endpoints\.md"):
            await http.ws_connect(f"ws://127.0.0.1:{port}/other")
        with pytest.raises(RestUnreachable, match=r"HTTP 451; the exchange.*docs/how-to/endpoints\.md"):
            await RestClient(http, f"http://127.0.0.1:{port}", limits).fetch(Request("/x", {}), bytes)
