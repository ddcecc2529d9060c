"""The HTTP and websocket client of the ingest, with the proxies and certificates that the environment names."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import environ
from typing import Final
from urllib.request import getproxies_environment

import aiohttp
from aiohttp import WSMsgType as MessageType

from k2.common.validation_errors import InvalidSpec, Problem, redact
from k2.ingest.network.addresses import SocketFactory
from k2.ingest.network.proxies import Proxies
from k2.ingest.network.statuses import explain

__all__ = [
    "FAILURES",
    "HandshakeRefused",
    "HttpClient",
    "MessageType",
    "ProxyRefused",
    "RedirectRefused",
    "Reply",
    "ReplyTooLarge",
    "WebSocket",
    "check_environment",
    "open_client",
]

WebSocket = aiohttp.ClientWebSocketResponse[bool]

# What opening, reading and closing raise when the network or the other side fails.
FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)

_AGENT: Final = "k2-market-data (https://github.com/k2-market-data/k2)"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, connect=5)
_CLOSE_TIMEOUT: Final = aiohttp.ClientWSTimeout(ws_close=1.0)
_MAX_BODY: Final = 16 << 20
_CA_FILE: Final = "SSL_CERT_FILE"


class HandshakeRefused(ConnectionError):
    """The server answered a websocket handshake with an HTTP status. `retry_after` is the header's value."""

    def __init__(self, status: int, reason: str, retry_after: str | None) -> None:
        super().__init__(f"HTTP {status}: {reason}{explain(status)}")
        self.status = status
        self.retry_after = retry_after


class ProxyRefused(ConnectionError):
    """The proxy did not let a request through."""

    def __init__(self, proxy: str | None, error: aiohttp.ClientHttpProxyError) -> None:
        # Not from `error`: its text has the password that the URL of the proxy carries.
        super().__init__(f"proxy {redact(proxy or '')} answered HTTP {error.status}: {error.message}")


class ReplyTooLarge(ValueError):
    """The body of a reply is larger than any that an exchange sends."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request. Names of `headers` are compared without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RedirectRefused(aiohttp.ClientError):
    """The server redirects elsewhere. Exchanges do not, and another host's answers would prove nothing."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}: the server redirects elsewhere; name the URL that answers itself")


class HttpClient:
    """Opens websockets and sends requests, through the proxy that the environment names for their URL.

    `proxied` connects to proxies, which are the platform's; `direct` to the hosts that feeds name.
    """

    def __init__(self, direct: aiohttp.ClientSession, proxied: aiohttp.ClientSession, proxies: Proxies) -> None:
        self._direct = direct
        self._proxied = proxied
        self._proxies = proxies

    async def ws_connect(self, url: str, *, autoping: bool = False, max_size: int = 0) -> WebSocket:
        """Open a websocket; frames are text as bytes, at most `max_size` long. Raises `FAILURES`."""
        proxy = self._proxies.proxy(url)
        try:
            return await self._session(proxy).ws_connect(
                url,
                proxy=proxy,
                autoping=autoping,
                max_msg_size=max_size,
                decode_text=False,
                timeout=_CLOSE_TIMEOUT,
            )
        except aiohttp.ClientHttpProxyError as error:
            raise ProxyRefused(proxy, error) from None
        except aiohttp.WSServerHandshakeError as error:
            retry_after = error.headers.get("Retry-After") if error.headers else None
            raise HandshakeRefused(error.status, error.message, retry_after) from error

    async def get(self, url: str, params: Mapping[str, str]) -> Reply:
        """Send a GET request. Raises `FAILURES`, or `ReplyTooLarge`."""
        proxy = self._proxies.proxy(url)
        try:
            async with self._session(proxy).get(url, params=params, proxy=proxy, timeout=_TIMEOUT) as response:
                body = await response.content.read(_MAX_BODY)
                while not response.content.at_eof():
                    body += await response.content.read(_MAX_BODY)
                    if len(body) > _MAX_BODY:
                        raise ReplyTooLarge(f"response larger than {_MAX_BODY} bytes")
                return Reply(response.status, response.headers, body)
        except aiohttp.ClientHttpProxyError as error:
            raise ProxyRefused(proxy, error) from None

    def _session(self, proxy: str | None) -> aiohttp.ClientSession:
        return self._direct if proxy is None else self._proxied


def check_environment() -> None:
    """Raise `InvalidSpec` if the environment names an unusable proxy or certificate file."""
    Proxies.of(getproxies_environment())
    _tls(environ)


@asynccontextmanager
async def open_client(*, private: bool = True) -> AsyncIterator[HttpClient]:
    """Yield a client that honours the environment; `private`: it may connect to addresses that are not public.

    Raises `InvalidSpec` for an unusable proxy or certificate file.
    """
    proxies, tls = Proxies.of(getproxies_environment()), _tls(environ)
    async with (
        _session(aiohttp.TCPConnector(ssl=tls, socket_factory=SocketFactory(private=private))) as direct,
        _session(aiohttp.TCPConnector(ssl=tls)) as proxied,
    ):
        yield HttpClient(direct, proxied, proxies)


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(connector=connector, headers={"User-Agent": _AGENT}, trace_configs=[trace])


async def _refuse_redirect(_session: object, _context: object, params: aiohttp.TraceRequestRedirectParams) -> None:
    raise RedirectRefused(params.response.status)


def _tls(variables: Mapping[str, str]) -> ssl.SSLContext:
    """Return a TLS context with the authorities that OpenSSL finds, SSL_CERT_FILE and SSL_CERT_DIR included.

    OpenSSL ignores a file that it cannot read, and then refuses every server; here it is an error.
    """
    context = ssl.create_default_context()
    if file := variables.get(_CA_FILE):
        try:
            context.load_verify_locations(file)
        except OSError as error:  # also of a file without certificates
            allowed = f"must be a file with certificates in PEM format: {error.strerror or error}"
            raise InvalidSpec([Problem(_CA_FILE, file, allowed)]) from error
    return context
