"""Who asks, whether they may, and how often."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from fastapi.requests import HTTPConnection
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from k2.query.api.errors import Refused
from k2.query.api.keys import Keys, Scope
from k2.query.api.settings import ApiSettings

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="k2"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks: the name of a key, or an address. `spent` are the headers that tell how much of a rate is left."""

    name: str
    spent: dict[str, str]


class Access:
    """The door. Rates are counted in this process: of two replicas, each counts its own."""

    def __init__(self, settings: ApiSettings) -> None:
        self._keys = Keys(settings.keys) if settings.keys else None
        self._only_here = self._keys is None and not settings.open
        self._open, self._refused = parse(settings.rate_open), parse(settings.rate_refused)
        self._rate = settings.rate
        self._counted = SlidingWindowCounterRateLimiter(MemoryStorage())

    def admit(self, connection: HTTPConnection, scope: Scope) -> Caller:
        """The caller of a request or a websocket. Raises `Refused`: 401, 403 or 429."""
        address = connection.client.host if connection.client else "unknown"
        if self._keys is None:
            if self._only_here:
                _here(connection)
            return self._counting(f"address {address}", self._open)
        token = _token(connection)
        key = self._keys.find(token) if token else None
        if key is None:
            self._counting(f"refused {address}", self._refused)
            why = "this key is not known" if token else "a key is needed"
            raise Refused(401, f"{why}; send it as `Authorization: Bearer KEY` or `X-Api-Key: KEY`", _CHALLENGE)
        caller = self._counting(f"key {key.name}", parse(key.rate or self._rate))
        if scope not in key.scopes:
            raise Refused(403, f"the key {key.name} has no scope {scope}; it has {', '.join(key.scopes)}")
        return caller

    def _counting(self, name: str, rate: RateLimitItem) -> Caller:
        allowed = self._counted.hit(rate, name)
        window = self._counted.get_window_stats(rate, name)
        again = max(1, math.ceil(window.reset_time - time.time()))
        spent = {
            "RateLimit-Policy": f'"default";q={rate.amount};w={rate.get_expiry()}',
            "RateLimit": f'"default";r={window.remaining};t={again}',
        }
        if not allowed:
            limit = f"{rate.amount} requests in {rate.get_expiry()} s are allowed"
            raise Refused(429, f"{limit}; come back in {again} s", spent | {"Retry-After": str(again)})
        return Caller(name, spent)


def requires(scope: Scope) -> Callable[[HTTPConnection], Awaitable[None]]:
    """The dependency of a route that only keys of a scope may ask. The caller is in `request.state.caller` then."""

    async def admitted(connection: HTTPConnection) -> None:
        caller: Caller = connection.app.state.access.admit(connection, scope)
        connection.state.caller = caller
        connection.state.headers = caller.spent

    return admitted


def _token(connection: HTTPConnection) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key") or None


def _here(connection: HTTPConnection) -> None:
    """A page elsewhere could name this machine by a name of its own, and so read what is meant for nobody else."""
    host = connection.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name.lower() not in _LOOPBACK and not _loopback(name):
        raise Refused(403, "without keys only this machine is served; ask for localhost")


def _loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
