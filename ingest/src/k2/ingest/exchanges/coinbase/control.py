"""Coinbase Exchange: subscription requests, and every message that is neither a trade nor a heartbeat.

Answers carry no number, so one request is sent at a time. One bad product, and the whole call is ignored.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from k2.ingest.exchanges.base import Closing, Event, MalformedFrame, Refusal, Refused, Subscribed, Unknown, named
from k2.schemas.exchanges.spec import Pair

_BUSY_WORDS = ("rate limit", "too many", "slow", "try again", "internal", "timeout", "unavailable")
_CAPACITY_WORDS = ("maximum number", "too big", "too large")
_CLOSING_WORDS = ("maintenance", "shutdown", "shutting", "restart", "goingaway", "disconnect", "reconnect")


class CoinbaseControl:
    """The requests of some of Coinbase's channels and their answers."""

    channels: Sequence[str] = ("matches", "heartbeat")  # the first brings the records
    names: Sequence[str] = ("matches",)  # what answers call that
    _pairs: Sequence[Pair]

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe message; the first must be sent within 5 seconds."""
        return self._request("subscribe", pairs)

    def unsubscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return an unsubscribe message."""
        return self._request("unsubscribe", pairs)

    def control(self, message: dict[str, Any]) -> Sequence[Event]:
        """Parse everything but trades and heartbeats: answers, errors, announcements, unknown types."""
        match message.get("type"):
            case "subscriptions":
                return [self._subscribed(message)]
            case "error":
                return [self._refused(message)]
            case str(kind) if any(word in kind.lower().replace("_", "") for word in _CLOSING_WORDS):
                return [Closing(f"{kind}: {message.get('message', '')}"[:200])]
            case str(kind):
                return [Unknown(kind[:40])]
        raise MalformedFrame("no type that Coinbase documents")

    def _refused(self, message: dict[str, Any]) -> Refused:
        text = f"{message.get('message')}: {message.get('reason', '')}"[:200]
        words = text.lower()
        kind = Refusal.SYMBOL
        if any(word in words for word in _BUSY_WORDS):
            kind = Refusal.BUSY
        elif any(word in words for word in _CAPACITY_WORDS):
            kind = Refusal.CAPACITY
        return Refused(text, named(text, [pair.raw_symbol for pair in self._pairs]), kind=kind, whole=True)

    def _subscribed(self, message: dict[str, Any]) -> Subscribed:
        channels = message.get("channels")
        for channel in channels if isinstance(channels, list) else ():
            if isinstance(channel, dict) and channel.get("name") in self.names:
                products = channel.get("product_ids", [])
                return Subscribed(tuple(name for name in products if isinstance(name, str)))
        return Subscribed(())

    def _request(self, kind: str, pairs: Sequence[Pair]) -> bytes:
        products = [pair.raw_symbol for pair in pairs]
        return msgspec.json.encode({"type": kind, "product_ids": products, "channels": self.channels})
