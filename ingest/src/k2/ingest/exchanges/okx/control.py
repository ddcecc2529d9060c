"""OKX v5 spot: subscription requests, and every message that is no record.

Each argument of a request is answered alone. A refusal (60018) names the instrument in its sentence only.
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

_UPGRADE = "64008"
_CAPACITY = frozenset({"60028", "64007"})
# Requests too frequent, timeouts, and the errors of every service that say "try again later".
_BUSY = frozenset({"60014", "60006", "60016", "50001", "50004", "50011", "50013", "50026", "50040", "50061", "63999"})
_CLOSING_WORDS = ("closed", "reconnect", "upgrade", "maintenance")
_BUSY_WORDS = ("too frequent", "try again", "system busy", "internal error", "timeout")


class OkxControl:
    """The requests of one of OKX's channels and their answers."""

    channel: str
    _pairs: Sequence[Pair]

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe request."""
        return self._request("subscribe", pairs, number)

    def unsubscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return an unsubscribe request."""
        return self._request("unsubscribe", pairs, number)

    def control(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        """Parse everything but records: answers, errors, notices, unknown channels."""
        message = json_object(frame)
        arg = message.get("arg")
        arg = arg if isinstance(arg, dict) else {}
        number = request_number(message.get("id"))
        match message.get("event"):
            case "subscribe":
                return [Subscribed((str(arg.get("instId", "")),), number)]
            case "unsubscribe":
                return [Unsubscribed((str(arg.get("instId", "")),), number)]
            case "error":
                return [self._refused(message, arg, number)]
            case "notice":
                return [_notice(message)]
            case str(kind):
                return [Unknown(kind[:40])]
        if arg.get("channel") == self.channel:
            raise MalformedFrame(str(cause))
        if isinstance(arg.get("channel"), str):
            return [Unknown(arg["channel"][:40])]
        raise MalformedFrame("neither data nor an event that OKX documents")

    def _refused(self, message: dict[str, Any], arg: dict[str, Any], number: int) -> Refused:
        code, words = str(message.get("code")), str(message.get("msg"))
        text = f"{code}: {words}"[:200]
        raw_symbols = [pair.raw_symbol for pair in self._pairs]
        named_symbol = str(arg.get("instId", ""))
        symbols = (named_symbol,) if named_symbol in raw_symbols else named(words, raw_symbols)
        if code in _BUSY or any(phrase in words.lower() for phrase in _BUSY_WORDS):
            return Refused(text, symbols, number, Refusal.BUSY)
        kind = Refusal.CAPACITY if code in _CAPACITY else Refusal.SYMBOL
        return Refused(text, symbols, number, kind, whole=not symbols)

    def _request(self, operation: str, pairs: Sequence[Pair], number: int) -> bytes:
        arguments = [{"channel": self.channel, "instId": pair.raw_symbol} for pair in pairs]
        return msgspec.json.encode({"id": str(number), "op": operation, "args": arguments})


def _notice(message: dict[str, Any]) -> Event:
    text = f"{message.get('code')}: {message.get('msg')}"[:200]
    if message.get("code") == _UPGRADE or any(word in text.lower() for word in _CLOSING_WORDS):
        return Closing(text)
    return Unknown(f"notice {text}"[:40])
