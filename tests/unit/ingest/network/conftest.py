"""A certificate authority of its own, servers with its certificates, and a proxy with a real CONNECT."""

import asyncio
import base64
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "exchange.test"  # no resolver knows it: only the proxy does

_VARIABLES = [
    name
    for each in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
    for name in (each, each.upper())
]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Authority:
    """A certificate authority, and a certificate of it for `HOST` and this machine."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ca.pem"
        key, own_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "K2 test authority")])
        authority = _certificate(name, name, key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file.write_bytes(authority.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        names = x509.SubjectAlternativeName([x509.DNSName(HOST), x509.IPAddress(ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
        own = _certificate(subject, name, own_key.public_key()).add_extension(names, critical=False)
        chain = folder / "server.pem"
        chain.write_bytes(
            own_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + own.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(chain)


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no system trusts."""
    return Authority(tmp_path_factory.mktemp("authority"))


class Proxy:
    """An HTTP proxy: CONNECT for everything with TLS, whole URLs for the rest. Every host is this machine."""

    def __init__(self, user: str = "") -> None:
        self.requests: list[str] = []
        self.port = 0
        self._expected = f"Basic {base64.b64encode(user.encode()).decode()}" if user else ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line = head.partition("\r\n")[0]
            self.requests.append(line)
            if self._expected and f"Proxy-Authorization: {self._expected}" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            else:
                await self._forward(line, head, reader, writer)
        writer.close()

    async def _forward(self, line: str, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = line.split()
        authority = target if method == "CONNECT" else target.split("/")[2]
        up, down = await asyncio.open_connection("127.0.0.1", int(authority.rpartition(":")[2]))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            down.write(head.replace(f"http://{authority}", "", 1).encode())
        await asyncio.gather(_pipe(reader, down), _pipe(up, writer))


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Callable[..., Proxy]]:
    """Starts proxies; a user name and password is what they ask for."""
    async with AsyncExitStack() as stack:

        async def start(user: str = "") -> Proxy:
            made = Proxy(user)
            server = await stack.enter_async_context(await asyncio.start_server(made.serve, "127.0.0.1", 0))
            made.port = server.sockets[0].getsockname()[1]
            return made

        yield start


@pytest.fixture
async def exchange(authority: Authority) -> AsyncIterator[Callable[..., int]]:
    """Starts servers that echo on /ws, and answer elsewhere with a status; with TLS unless it is plain."""
    runners: list[web.AppRunner] = []

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def start(status: int = 200, *, plain: bool = False) -> int:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, text="answered", headers={"Retry-After": "7"})

        app = web.Application()
        app.add_routes([web.get("/ws", echo), web.get("/{path:.*}", answer)])
        runners.append(web.AppRunner(app, access_log=None, shutdown_timeout=0.1))
        await runners[-1].setup()
        site = web.TCPSite(runners[-1], "127.0.0.1", 0, ssl_context=None if plain else authority.tls)
        await site.start()
        return int(runners[-1].addresses[0][1])

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def redirecting() -> AsyncIterator[Callable[..., tuple[int, list[str]]]]:
    """Starts servers that redirect every request to a path of their own, and list the paths that were asked for."""
    runners: list[web.AppRunner] = []

    async def start(status: int) -> tuple[int, list[str]]:
        asked: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            asked.append(request.path)
            return web.Response(status=status, headers={"Location": "/elsewhere"})

        app = web.Application()
        app.add_routes([web.get("/{path:.*}", answer)])
        runners.append(web.AppRunner(app, access_log=None, shutdown_timeout=0.1))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        return int(runners[-1].addresses[0][1]), asked

    yield start
    for runner in runners:
        await runner.cleanup()
