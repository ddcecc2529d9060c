"""Binance spot: subscription requests, and every message that is no record.

An acknowledgement is no proof: streams that do not exist are acknowledged too, and deliver nothing.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from k2.ingest.exchanges.base import (
    Closing,
    Event,
    MalformedFrame,
    Refusal,
    Refused,
    Subscribed,
    Unknown,
    named,
    request_number,
)
from k2.schemas.exchanges.spec import Pair

_CAPACITY_WORDS = "too many subscriptions"  # of a connection, code 4
_BUSY_WORDS = ("too many", "rate limit", "try again", "internal", "timeout", "unavailable", "busy")


class BinanceControl:
    """The requests of one kind of Binance's streams and their answers."""

    stream: str  # the name of the streams behind the symbol, which trades also have as their event type
    _pairs: Sequence[Pair]

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a SUBSCRIBE request."""
        return self._request("SUBSCRIBE", pairs, number)

    def unsubscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return an UNSUBSCRIBE request."""
        return self._request("UNSUBSCRIBE", pairs, number)

    def control(self, message: dict[str, Any]) -> Sequence[Event]:
        """Parse everything but records: answers, errors, the shutdown notice, unknown events."""
        data = message.get("data")
        event = data if isinstance(data, dict) else message
        kind = event.get("e")
        if kind == "serverShutdown":
            return [Closing("serverShutdown")]
        if isinstance(kind, str) and kind != self.stream:
            return [Unknown(kind[:40])]
        stream = message.get("stream")
        if kind is None and isinstance(stream, str) and not self._is_own(stream):
            return [Unknown(stream.partition("@")[2][:40])]  # bookTicker names itself nowhere else
        if "result" in message:
            return [Subscribed((), request_number(message.get("id")))]
        error = message.get("error", message)
        if isinstance(error, dict) and "code" in error:
            return [self._refused(error, message)]
        raise MalformedFrame(f"neither {self.stream} nor a message that Binance documents")

    def _refused(self, error: dict[str, Any], message: dict[str, Any]) -> Refused:
        text = f"{error.get('code')}: {str(error.get('msg'))[:200]}"
        kind = Refusal.SYMBOL
        if _CAPACITY_WORDS in text.lower():
            kind = Refusal.CAPACITY
        elif any(word in text.lower() for word in _BUSY_WORDS):
            kind = Refusal.BUSY
        symbols = named(text.upper(), [pair.raw_symbol for pair in self._pairs])
        number = request_number(message.get("id", error.get("id")))
        return Refused(text, symbols, number, kind, whole=True)

    def _is_own(self, stream: object) -> bool:
        return isinstance(stream, str) and stream.endswith(f"@{self.stream}")

    def _request(self, method: str, pairs: Sequence[Pair], number: int) -> bytes:
        streams = [f"{pair.raw_symbol.lower()}@{self.stream}" for pair in pairs]
        return msgspec.json.encode({"method": method, "params": streams, "id": number})
