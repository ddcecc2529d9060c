"""Simulated OKX v5: the `trades-all` channel, text pings, and trades by id over REST."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2.ingest.exchanges.base_venue import Client, RestReply, count, json_message, json_reply, json_text, number
from k2.ingest.exchanges.okx.messages import CHANNEL
from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.spec import Pair

_IDLE_LIMIT = 30.0


class OkxVenue:
    """Simulated OKX."""

    default_symbols = ("BTC-USDT", "ETH-USDT")
    paths = ("/ws/v5/business",)
    rest_rate, rest_burst = 10.0, 20.0
    ping_every = 0.0

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._raw_symbols = {pair.raw_symbol for pair in pairs}

    def on_connect(self, client: Client) -> list[str]:
        """Return nothing."""
        return []

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Handle subscriptions and the text `ping`."""
        if text == "ping":
            return ["pong"]
        request = json_message(text)
        if request.get("op") != "subscribe":
            return ['{"event":"error","code":"60012","msg":"Invalid request: expected op","connId":"a4d3ae55"}']
        replies = []
        for arg in request.get("args", []):
            raw_symbol = arg.get("instId") if isinstance(arg, dict) else None
            if raw_symbol not in self._raw_symbols or arg.get("channel") != CHANNEL:
                text = f"Wrong URL or channel:{arg.get('channel')},instId:{raw_symbol} doesn't exist."
                replies.append(json_text({"event": "error", "code": "60018", "msg": text, "connId": "a4d3ae55"}))
                continue
            client.subscribed.add(raw_symbol)
            replies.append(json_text({"event": "subscribe", "arg": arg, "connId": "a4d3ae55"}))
        return replies

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield one frame per fill."""
        for trade in trades:
            yield json_text({"arg": {"channel": CHANNEL, "instId": trade.pair.raw_symbol}, "data": [_row(trade)]})

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """Return none: OKX answers pings."""
        return []

    def violation(self, client: Client, now: float) -> str:
        """Report 30 seconds without a message from the client."""
        return "30 seconds of silence" if now - client.last_message_at > _IDLE_LIMIT else ""

    def weight(self, path: str) -> float:
        """Return 1: every request costs the same."""
        return 1.0

    def limited(self) -> RestReply:
        """Return 429 with the code in the body."""
        return json_reply({"code": "50011", "msg": "Too Many Requests", "data": []}, 429)

    def rest(self, path: str, query: Mapping[str, str], history: History) -> RestReply:
        """Serve single fills, newest first; `after` pages backwards."""
        raw_symbol, after = query.get("instId", ""), query.get("after", "")
        if raw_symbol not in self._raw_symbols:
            return json_reply({"code": "51001", "msg": "Instrument ID does not exist.", "data": []})
        if path == "/api/v5/market/history-trades":
            limit = count(query, "limit", 100)
            trades = (
                history.before_id(raw_symbol, int(after), limit)
                if after.isdigit()
                else history.newest(raw_symbol, limit)
            )
        elif path == "/api/v5/market/trades":
            trades = history.newest(raw_symbol, count(query, "limit", 500))
        else:
            return json_reply({"code": "404", "msg": "Not found", "data": []}, 404)
        return json_reply({"code": "0", "msg": "", "data": [_row(trade) for trade in reversed(trades)]})

    def trade_id(self, trade: SimTrade) -> str:
        """Return the number."""
        return str(trade.id)


def _row(trade: SimTrade) -> dict[str, Any]:
    return {
        "instId": trade.pair.raw_symbol, "tradeId": str(trade.id), "px": number(trade.price),
        "sz": number(trade.quantity), "side": "buy" if trade.buy else "sell", "ts": str(trade.time // 1000),
        "source": "0",
    }  # fmt: skip


VENUE = OkxVenue
