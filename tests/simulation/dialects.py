"""What is particular to each exchange in a simulation, beside the frames and answers of its venue."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from k2.ingest.exchanges.base_venue import Client, Venue, json_text, number
from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import SimTrade

_SIDES = ("S", "m", "side")


@dataclass(frozen=True)
class Dialect(ABC):
    """One exchange. `transient` are errors of its REST API that pass: status and body."""

    symbols: tuple[str, ...]  # three that trade, then one that the exchange does not list
    transient: tuple[tuple[int, str], ...]
    notices_path: str = ""
    other_protocol: str = ""

    def is_request(self, text: str) -> bool:
        """Return whether a message asks for subscriptions."""
        return "subscribe" in text.lower() and "ping" not in text.lower()

    def subscribes(self, text: str, raw_symbol: str) -> bool:
        """Return whether a message subscribes to a symbol."""
        words = text.lower()
        return "unsubscribe" not in words and f'"{raw_symbol.lower()}"' in words.replace("@trade", "").replace(
            "publictrade.", ""
        )

    def receive(self, venue: Venue, text: str, client: Client, history: History) -> list[str]:
        """Return the replies to a message."""
        return venue.receive(text, client, history)

    def frames(self, venue: Venue, trades: Sequence[SimTrade], client: Client) -> Iterable[str]:
        """Return the frames of an order."""
        return venue.frames(trades, client.protocol)

    @abstractmethod
    def notice(self, now: int, due: int) -> str:
        """Return the announcement, made `now`, of a cut at `due`, both in UTC microseconds."""

    def spoil(self, text: str, record_id: str) -> str:
        """Return a frame whose item with an id has an impossible side."""
        return json.dumps(_spoiled(json.loads(text), record_id), separators=(",", ":"))


def _spoiled(value: Any, record_id: str) -> Any:
    if isinstance(value, list):
        return [_spoiled(each, record_id) for each in value]
    if isinstance(value, dict):
        if record_id in {str(each) for each in value.values() if isinstance(each, int | str)}:
            return {key: "None" if key in _SIDES else each for key, each in value.items()}
        return {key: _spoiled(each, record_id) for key, each in value.items()}
    return value


class _Binance(Dialect):
    def notice(self, now: int, due: int) -> str:
        return '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":0}}'


class _Kraken(Dialect):
    def notice(self, now: int, due: int) -> str:
        return json_text({"channel": "status", "type": "update", "data": [{"system": "maintenance"}]})


class _Coinbase(Dialect):
    def notice(self, now: int, due: int) -> str:
        return json_text({"type": "maintenance", "message": "the connection will be closed"})


class _Okx(Dialect):
    """OKX has a channel of aggregates too, `trades`: one item an order, with the last id and the quantity of all."""

    def receive(self, venue: Venue, text: str, client: Client, history: History) -> list[str]:
        if '"trades"' not in text:
            return venue.receive(text, client, history)
        client.heartbeats.add("aggregates")
        replies = venue.receive(text.replace('"trades"', '"trades-all"'), client, history)
        return [reply.replace('"trades-all"', '"trades"') for reply in replies]

    def frames(self, venue: Venue, trades: Sequence[SimTrade], client: Client) -> Iterable[str]:
        if "aggregates" not in client.heartbeats:
            return venue.frames(trades, client.protocol)
        last = trades[-1]
        item = {
            "instId": last.pair.raw_symbol, "tradeId": str(last.id), "px": number(last.price),
            "sz": number(sum(trade.quantity for trade in trades)), "side": "buy" if last.buy else "sell",
            "ts": str(last.time // 1000), "count": str(len(trades)), "source": "0",
        }  # fmt: skip
        return [json_text({"arg": {"channel": "trades", "instId": last.pair.raw_symbol}, "data": [item]})]

    def notice(self, now: int, due: int) -> str:
        words = "The connection will soon be closed for a service upgrade. Please reconnect."
        return json_text({"event": "notice", "code": "64008", "msg": words, "connId": "a4d3ae55"})


class _Bybit(Dialect):
    def notice(self, now: int, due: int) -> str:
        row = {"id": "1", "title": "Upgrade", "state": "scheduled", "begin": str(due // 1000), "end": ""}
        return json_text({"topic": "system.status", "ts": now // 1000, "data": [row]})


_HTML = "<html><head><title>502 Bad Gateway</title></head></html>"
_EVERYWHERE = ((500, "{}"), (502, _HTML), (200, _HTML), (503, ""), (408, ""), (404, _HTML))

DIALECTS = {
    "binance": _Binance(
        ("BTCUSDT", "ETHUSDT", "SOLUSDT", "OLDUSDT"),
        (*_EVERYWHERE, (400, '{"code":-1001,"msg":"Internal error; unable to process your request."}')),
    ),
    "kraken": _Kraken(
        ("BTC/USD", "ETH/USD", "SOL/USD", "OLD/USD"),
        (*_EVERYWHERE, (200, '{"error":["EGeneral:Internal error"]}')),
        other_protocol="v1",
    ),
    "coinbase": _Coinbase(
        ("BTC-USD", "ETH-USD", "SOL-USD", "OLD-USD"), (*_EVERYWHERE, (404, '{"message":"NotFound"}'))
    ),
    "okx": _Okx(
        ("ETH-USDT", "BTC-USDT", "SOL-USDT", "BETH-USDT"),
        (
            *_EVERYWHERE,
            (200, '{"code":"50001","msg":"Service temporarily unavailable","data":[]}'),
            (200, '{"code":"50004","msg":"API endpoint request timeout","data":[]}'),
            (200, '{"code":"50026","msg":"System error. Try again later","data":[]}'),
        ),
    ),
    "bybit": _Bybit(
        ("BTCUSDT", "ETHUSDT", "SOLUSDT", "OLDUSDT"),
        (*_EVERYWHERE, (200, '{"retCode":10016,"retMsg":"Server error.","result":{}}')),
        "/v5/public/misc/status",
    ),
}
