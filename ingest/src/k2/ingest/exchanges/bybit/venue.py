"""Simulated Bybit v5 spot: publicTrade, pings, and over REST the newest 60 trades, instruments and time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2.ingest.exchanges.base_venue import (
    Client,
    RestReply,
    Venue,
    count,
    json_message,
    json_reply,
    json_text,
    number,
    step,
    texts,
)
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Instrument, Status
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.registry import EXCHANGES

_TOPIC = "publicTrade."
_MAX_ARGUMENTS = 10
_ROWS = 60
_ID_BASE = 2_290_000_000_000_000_000


class BybitVenue(Venue):
    """Simulated Bybit."""

    spec = EXCHANGES["bybit"]
    default_symbols = ("BTCUSDT", "ETHUSDT")
    new_symbol = "SOLUSDT"
    paths = ("/v5/public/spot",)
    rest_rate, rest_burst = 120.0, 600.0

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Handle pings and subscriptions of at most ten topics; a request succeeds or fails as a whole."""
        request = json_message(text)
        if request.get("op") == "ping":
            return ['{"success":true,"ret_msg":"pong","conn_id":"465772b1","op":"ping"}']
        topics = texts(request.get("args", []))
        reply: dict[str, Any] = {"conn_id": "465772b1", "req_id": request.get("req_id", ""), "op": "subscribe"}
        bad = [topic for topic in topics if not self.listings.listed(topic.removeprefix(_TOPIC))]
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

    def limited(self) -> RestReply:
        """Return 200 with the code in the body."""
        return json_reply({"retCode": 10006, "retMsg": "Too many visits!", "result": {}})

    def rest(self, path: str, query: Mapping[str, str], history: History, now: int) -> RestReply:
        """Serve the newest trades, newest first, the instruments and the time."""
        raw_symbol = query.get("symbol", "")
        if path == "/v5/market/time":
            return _reply({"timeSecond": str(now // 10**6), "timeNano": str(now * 1000)}, now)
        if path == "/v5/market/instruments-info":
            rows = [_instrument(item) for item in self.listings if item.status is Status.TRADING]
            return _reply({"category": "spot", "list": rows}, now)
        if path != "/v5/market/recent-trade":
            return RestReply(b"404 page not found", 404)
        if not self.listings.listed(raw_symbol):
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
        return _reply({"category": "spot", "list": rows}, now)

    def trade_id(self, trade: SimTrade) -> str:
        """Return an id that is unique across symbols and not consecutive."""
        return trade.name or str(_ID_BASE + trade.id * 1000 + self.listings.place(trade.pair.raw_symbol))


def _reply(result: dict[str, Any], now: int) -> RestReply:
    return json_reply({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": now // 1000})


def _instrument(item: Instrument) -> dict[str, Any]:
    return {
        "symbol": item.pair.raw_symbol, "baseCoin": item.pair.base, "quoteCoin": item.pair.quote, "innovation": "0",
        "status": "Trading", "marginTrading": "utaOnly", "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": step(item.lot), "quotePrecision": "0.00000001", "minOrderQty": step(item.lot),
            "maxOrderQty": "100", "minOrderAmt": "5", "maxOrderAmt": "1000000",
        },
        "priceFilter": {"tickSize": step(item.tick)},
    }  # fmt: skip


VENUE = BybitVenue
