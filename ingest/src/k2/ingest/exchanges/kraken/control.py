"""Kraken spot, websocket v2: subscription requests, and every message that is no record.

Each symbol of a request is answered alone. A symbol that is subscribed already is refused until it is unsubscribed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
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
from k2.schemas.values import to_micros

_METHODS = frozenset({"subscribe", "unsubscribe"})
_SILENT_KINDS = frozenset({"heartbeat", "pong"})
_ONLINE = "online"
_BUSY_WORDS = ("exceeded msg rate", "rate limit", "too many", "try again", "internal", "unavailable", "busy", "timeout")


class KrakenControl:
    """The requests of one of Kraken's channels and their answers."""

    channel: str
    options: Mapping[str, str | bool | int] = MappingProxyType({})  # further parameters of a subscription
    _pairs: Sequence[Pair]
    _system = ""  # as the connection's last status said

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe request that asks for a snapshot."""
        return self._request("subscribe", pairs, number, snapshot=True, **self.options)

    def unsubscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return an unsubscribe request."""
        return self._request("unsubscribe", pairs, number, **self.options)

    def control(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        """Parse everything but records: answers, errors, the system's status, unknown channels."""
        message = json_object(frame)
        kind = message.get("channel", message.get("method"))
        if kind == self.channel:
            raise MalformedFrame(str(cause))
        if kind == "status":
            return self._status(message)
        if isinstance(kind, str) and kind in _SILENT_KINDS:
            return ()
        answered = isinstance(kind, str) and kind in _METHODS
        if answered or "success" in message or "error" in message or "Error" in message:
            return [self._answer(message, unsubscribe=kind == "unsubscribe")]
        if isinstance(kind, str):
            return [Unknown(kind[:40])]
        raise MalformedFrame("neither a channel nor a method that Kraken documents")

    def _answer(self, message: dict[str, Any], *, unsubscribe: bool) -> Event:
        result = message.get("result")
        raw_symbol = str((result if isinstance(result, dict) else message).get("symbol", ""))
        symbols: tuple[str, ...] = (raw_symbol,) if raw_symbol else ()
        number = request_number(message.get("req_id"))
        if message.get("success") is True:
            return Unsubscribed(symbols, number) if unsubscribe else Subscribed(symbols, number)
        text = str(message.get("error", message.get("Error", "refused")))[:200]
        symbols = symbols or named(text, [pair.raw_symbol for pair in self._pairs])
        return Refused(text, symbols, number, refusal(text), whole=not symbols)

    def _status(self, message: dict[str, Any]) -> Sequence[Event]:
        """Return an announcement if the engine leaves `online`, or a maintenance comes up, on this connection."""
        rows = message.get("data")
        status = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
        system, before = str(status.get("system", "")), self._system
        self._system = system or before
        planned = _rows(status, "upcoming_maintenance") + _rows(status, "emergency")
        if planned:
            return [Closing(f"maintenance: {str(planned[0].get('phase', ''))[:80]}", _begins(planned[0]))]
        if before == _ONLINE and system not in {"", _ONLINE}:
            return [Closing(f"status: {system[:40]}")]
        return ()

    def _request(self, method: str, pairs: Sequence[Pair], number: int, **options: str | bool | int) -> bytes:
        symbols = [pair.raw_symbol for pair in pairs]
        params = {"channel": self.channel, "symbol": symbols, **options}
        return msgspec.json.encode({"method": method, "params": params, "req_id": number})


def refusal(text: str) -> Refusal:
    """Return what a refusal of Kraken says, in either protocol."""
    words = text.lower()
    if "already subscribed" in words:
        return Refusal.SUBSCRIBED
    return Refusal.BUSY if any(phrase in words for phrase in _BUSY_WORDS) else Refusal.SYMBOL


def _rows(status: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = status.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _begins(row: dict[str, Any]) -> int:
    try:
        begins = datetime.fromisoformat(str(row.get("begins_at", "")))
    except ValueError:
        return 0
    return to_micros(begins) if begins.tzinfo else 0
