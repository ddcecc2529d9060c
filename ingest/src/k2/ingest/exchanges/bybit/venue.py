"""Simulated Bybit v5 spot: publicTrade, pings, and the newest 60 trades over REST."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2.ingest.exchanges.base_venue import Client, RestReply, count, json_message, json_reply, json_text, number, texts
from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.spec import Pair

_TOPIC = "publicTrade."
_MAX_ARGUMENTS = 10
_ROWS = 60
_ID_BASE = 2_290_000_000_000_000_000


class BybitVenue:
    """Simulated Bybit."""

    default_symbols = ("BTCUSDT", "ETHUSDT")
    paths = ("/v5/public/spot",)
    rest_rate, rest_burst = 120.0, 600.0
    ping_every = 0.0

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._places = {pair.raw_symbol: place for place, pair in enumerate(pairs)}

    def on_connect(self, client: Client) -> list[str]:
        """Return nothing."""
        return []

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Handle pings and subscriptions of at most ten topics; a request succeeds or fails as a whole."""
        request = json_message(text)
        if request.get("op") == "ping":
            return ['{"success":true,"ret_msg":"pong","conn_id":"465772b1","op":"ping"}']
        topics = texts(request.get("args", []))
        reply: dict[str, Any] = {"conn_id": "465772b1", "req_id": request.get("req_id", ""), "op": "subscribe"}
        bad = [topic for topic in topics if topic.removeprefix(_TOPIC) not in self._places]
        if request.get("op") != "subscribe" or bad or len(topics) > _MAX_ARGUMENTS:
            text = f"Invalid topic: {bad[0]}" if bad else "args size >10"
            return [json_text({"success": False, "ret_msg": text, **reply})]
        client.subscribed.update(topic.removeprefix(_TOPIC) for topic in topics)
        return [json_text({"success": True, "ret_msg": "", **reply})]

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield one frame per batch; its trades share a sequence number."""
        last = trades[-1]
        rows = [
            {
                "T": trade.time // 1000, "s": trade.pair.raw_symbol, "S": "Buy" if trade.buy else "Sell",
                "v": number(trade.quantity), "p": number(trade.price), "i": self.trade_id(trade), "BT": False,
                "RPI": False, "seq": last.id,
            }
            for trade in trades
        ]  # fmt: skip
        topic = _TOPIC + last.pair.raw_symbol
        yield json_text({"topic": topic, "type": "snapshot", "ts": last.time // 1000 + 3, "data": rows})

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """Return none: Bybit answers pings."""
        return []

    def violation(self, client: Client, now: float) -> str:
        """Return nothing: no rule is enforced."""
        return ""

    def weight(self, path: str) -> float:
        """Return 1: every request costs the same."""
        return 1.0

    def limited(self) -> RestReply:
        """Return 200 with the code in the body."""
        return json_reply({"retCode": 10006, "retMsg": "Too many visits!", "result": {}})

    def rest(self, path: str, query: Mapping[str, str], history: History) -> RestReply:
        """Serve the newest trades, newest first."""
        raw_symbol = query.get("symbol", "")
        if path != "/v5/market/recent-trade" or raw_symbol not in self._places:
            return json_reply({"retCode": 10001, "retMsg": "Not supported symbols", "result": {}})
        trades = history.newest(raw_symbol, count(query, "limit", _ROWS))
        rows = [
            {
                "execId": self.trade_id(trade), "symbol": raw_symbol, "price": number(trade.price),
                "size": number(trade.quantity), "side": "Buy" if trade.buy else "Sell", "time": str(trade.time // 1000),
                "isBlockTrade": False,
            }
            for trade in reversed(trades)
        ]  # fmt: skip
        return json_reply({"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": rows}})

    def trade_id(self, trade: SimTrade) -> str:
        """Return an id that is unique across symbols and not consecutive."""
        return trade.name or str(_ID_BASE + trade.id * 1000 + self._places[trade.pair.raw_symbol])


VENUE = BybitVenue
