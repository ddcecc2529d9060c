"""Bybit v5 spot: subscription requests, and every message that is no record.

One bad topic refuses the whole request, and so does one that is subscribed already; the refusal names the topic.
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
    Unsubscribed,
    json_object,
    named,
    request_number,
)
from k2.schemas.exchanges.spec import Pair

_STATUS = "system.status"
_ENDED = frozenset({"completed", "cancelled", "canceled"})
_BUSY_WORDS = ("too many", "frequen", "rate limit", "try again", "internal", "server error", "timeout", "busy")
_CAPACITY_WORDS = ("args size", "args length", "exceed")
_MICROS = 1000  # of a millisecond


class BybitControl:
    """The requests of one kind of Bybit's topics and their answers."""

    topic: str  # before the symbol
    _pairs: Sequence[Pair]

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe request."""
        return self._request("subscribe", pairs, number)

    def unsubscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return an unsubscribe request."""
        return self._request("unsubscribe", pairs, number)

    def control(self, frame: bytes, cause: str = "") -> Sequence[Event]:
        """Parse everything but records: answers, pongs, the system's status, unknown topics."""
        message = json_object(frame)
        topic = message.get("topic")
        if isinstance(topic, str):
            if topic.startswith(self.topic):
                raise MalformedFrame(cause)
            return _closing(message) if topic == _STATUS else [Unknown(topic[:40])]
        match message.get("op"):
            case "ping" | "pong":
                return ()
            case "subscribe" | "unsubscribe" as kind:
                return [self._answer(message, kind)]
            case str(kind) if kind or "success" not in message:
                return [Unknown(kind[:40])]
        if message.get("success") is False:
            return [self._refused(message)]
        raise MalformedFrame("neither a topic nor an operation that Bybit documents")

    def _answer(self, message: dict[str, Any], kind: str) -> Event:
        if message.get("success") is not True:
            return self._refused(message)
        number = request_number(message.get("req_id", ""))
        return Subscribed((), number) if kind == "subscribe" else Unsubscribed((), number)

    def _refused(self, message: dict[str, Any]) -> Refused:
        text = str(message.get("ret_msg", "refused"))[:200]
        symbols = named(text, [pair.raw_symbol for pair in self._pairs])
        return Refused(text, symbols, request_number(message.get("req_id", "")), _kind(text), whole=True)

    def _request(self, operation: str, pairs: Sequence[Pair], number: int) -> bytes:
        topics = [self.topic + pair.raw_symbol for pair in pairs]
        return msgspec.json.encode({"req_id": str(number), "op": operation, "args": topics})


def _kind(text: str) -> Refusal:
    words = text.lower()
    if "already subscribed" in words:
        return Refusal.SUBSCRIBED
    if any(word in words for word in _BUSY_WORDS):
        return Refusal.BUSY
    return Refusal.CAPACITY if any(word in words for word in _CAPACITY_WORDS) else Refusal.SYMBOL


def _closing(message: dict[str, Any]) -> Sequence[Event]:
    """Return the announcements of a system status that is not over."""
    rows, sent = message.get("data"), _milliseconds(message.get("ts")) * _MICROS
    return [
        Closing(f"maintenance: {str(row.get('title', ''))[:80]}", _milliseconds(row.get("begin")) * _MICROS, sent)
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and str(row.get("state")).lower() not in _ENDED
    ]


def _milliseconds(value: object) -> int:
    """Return a time in milliseconds since 1970; 0 if it is none."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) == 13 else 0
