"""Simulated Binance spot: combined streams with SUBSCRIBE, historicalTrades and aggTrades."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2.ingest.exchanges.base_venue import Client, RestReply, count, json_message, json_reply, json_text, number, texts
from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.spec import Pair

_MESSAGES_A_SECOND = 5
_PLACES = 8  # of prices and quantities, with trailing zeros
_WEIGHTS = {"/api/v3/historicalTrades": 25.0, "/api/v3/aggTrades": 4.0, "/api/v3/trades": 25.0}


class BinanceVenue:
    """Simulated Binance."""

    default_symbols = ("BTCUSDT", "ETHUSDT")
    paths = ("/stream",)
    rest_rate, rest_burst = 100.0, 6000.0  # 6,000 weight a minute
    ping_every = 20.0

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._raw_symbols = {pair.raw_symbol for pair in pairs}

    def on_connect(self, client: Client) -> list[str]:
        """Return nothing."""
        return []

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Handle SUBSCRIBE and UNSUBSCRIBE. As on the real exchange, unknown symbols are accepted and stay silent."""
        request = json_message(text)
        names = {name.partition("@")[0].upper() for name in texts(request.get("params", [])) if name.endswith("@trade")}
        match request.get("method"):
            case "SUBSCRIBE":
                client.subscribed |= names
            case "UNSUBSCRIBE":
                client.subscribed -= names
            case None:
                return ['{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}']
            case method:
                return [json_text({"code": 2, "msg": f"Invalid request: unknown variant `{method}`"})]
        return [json_text({"result": None, "id": request.get("id")})]

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield one frame per trade."""
        for trade in trades:
            stream, millis = trade.pair.raw_symbol.lower(), trade.time // 1000
            price, quantity = number(trade.price, _PLACES), number(trade.quantity, _PLACES)
            yield (
                f'{{"stream":"{stream}@trade","data":{{"e":"trade","E":{millis + 1},"s":"{trade.pair.raw_symbol}",'
                f'"t":{trade.id},"p":"{price}","q":"{quantity}","T":{millis},'
                f'"m":{"false" if trade.buy else "true"},"M":true}}}}'
            )

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """Return none: Binance only pings."""
        return []

    def violation(self, client: Client, now: float) -> str:
        """Report more than five messages within a second."""
        recent = [at for at in client.message_times if now - at < 1.0]
        client.message_times[:] = recent
        return "too many messages" if len(recent) > _MESSAGES_A_SECOND else ""

    def weight(self, path: str) -> float:
        """Return the documented weight."""
        return _WEIGHTS.get(path, 1.0)

    def limited(self) -> RestReply:
        """Return 429 with Retry-After."""
        return json_reply({"code": -1003, "msg": "Too many requests"}, 429, **{"Retry-After": "1"})

    def rest(self, path: str, query: Mapping[str, str], history: History) -> RestReply:
        """Serve the three trade endpoints."""
        raw_symbol = query.get("symbol", "")
        if path not in _WEIGHTS:
            return json_reply({"code": -1000, "msg": "Not found"}, 404)
        if raw_symbol not in self._raw_symbols:
            return json_reply({"code": -1121, "msg": "Invalid symbol."}, 400)
        limit, first = count(query, "limit", 1000), query.get("fromId", "")
        trades = (
            history.from_id(raw_symbol, int(first), limit) if first.isdigit() else history.newest(raw_symbol, limit)
        )
        row = _aggregate if path.endswith("aggTrades") else _row
        return json_reply([row(trade) for trade in trades])

    def trade_id(self, trade: SimTrade) -> str:
        """Return the number."""
        return str(trade.id)


def _row(trade: SimTrade) -> dict[str, Any]:
    return {
        "id": trade.id, "price": number(trade.price, _PLACES), "qty": number(trade.quantity, _PLACES), "quoteQty": "0",
        "time": trade.time // 1000, "isBuyerMaker": not trade.buy, "isBestMatch": True,
    }  # fmt: skip


def _aggregate(trade: SimTrade) -> dict[str, Any]:
    return {
        "a": trade.id, "p": number(trade.price, _PLACES), "q": number(trade.quantity, _PLACES), "f": trade.id,
        "l": trade.id, "T": trade.time // 1000, "m": not trade.buy, "M": True,
    }  # fmt: skip


VENUE = BinanceVenue
