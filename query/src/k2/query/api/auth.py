"""Authentication by API key, authorization by scope, and rate limits."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastapi import HTTPException
from fastapi.requests import HTTPConnection
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from k2.common.loopback import is_loopback
from k2.query.api.errors import http_problem
from k2.query.api.keys import Keys, Scope
from k2.query.api.settings import ApiSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as AsgiScope

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="k2"'}


@dataclass(frozen=True, slots=True)
class Client:
    """An authenticated client: `key NAME` or `address IP`, and the RateLimit headers of its response."""

    name: str
    rate_headers: dict[str, str]


class HostMiddleware:
    """Reject a foreign Host header: DNS rebinding would let a web page of another origin read from this machine."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "AsgiScope", receive: "Receive", send: "Send") -> None:
        """Handle one request or websocket, of any path."""
        if scope["type"] == "lifespan" or is_loopback(HTTPConnection(scope).headers.get("host", "")):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: a 403
        else:
            rejected = HTTPException(
                403, "without API keys only requests to localhost are allowed; use http://localhost"
            )
            await http_problem(rejected)(scope, receive, send)


class AccessControl:
    """Authorize requests. Rates are counted per process: each replica counts its own."""

    def __init__(self, settings: ApiSettings) -> None:
        self._keys = Keys(settings.keys) if settings.keys else None
        self._anonymous_rate, self._unauthorized_rate = (
            parse(settings.rate_anonymous),
            parse(settings.rate_unauthorized),
        )
        self._default_rate = settings.rate
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def authorize(self, connection: HTTPConnection, scope: Scope) -> Client:
        """Return the client of a request or a websocket.

        Raises `HTTPException`: 401 without a valid key, 403 without the scope, 429 over the rate.
        """
        address = connection.client.host if connection.client else "unknown"
        if self._keys is None:
            return self._count(f"address {address}", self._anonymous_rate)
        token = _token(connection)
        key = self._keys.find(token) if token else None
        if key is None:
            self._count(f"unauthorized {address}", self._unauthorized_rate)
            reason = "unknown API key" if token else "an API key is required"
            raise HTTPException(
                401, f"{reason}; send it as `Authorization: Bearer KEY` or `X-Api-Key: KEY`", _CHALLENGE
            )
        client = self._count(f"key {key.name}", parse(key.rate or self._default_rate))
        if scope not in key.scopes:
            raise HTTPException(403, f"key {key.name} lacks scope {scope}; it has {', '.join(key.scopes)}")
        return client

    def _count(self, name: str, rate: RateLimitItem) -> Client:
        allowed = self._counter.hit(rate, name)
        window = self._counter.get_window_stats(rate, name)
        reset = max(1, math.ceil(window.reset_time - time.time()))
        headers = {
            "RateLimit-Policy": f'"default";q={rate.amount};w={rate.get_expiry()}',
            "RateLimit": f'"default";r={window.remaining};t={reset}',
        }
        if not allowed:
            limit = f"rate limit of {rate.amount} requests per {rate.get_expiry()} s exceeded"
            raise HTTPException(429, f"{limit}; retry in {reset} s", headers | {"Retry-After": str(reset)})
        return Client(name, headers)


def requires(scope: Scope) -> Callable[[HTTPConnection], Awaitable[None]]:
    """Return the dependency of a route that requires a scope. It sets `request.state.client`."""

    async def check(connection: HTTPConnection) -> None:
        client: Client = connection.app.state.access.authorize(connection, scope)
        connection.state.client = client
        connection.state.headers = client.rate_headers

    return check


def _token(connection: HTTPConnection) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key") or None
