"""Simulated OKX v5: the `trades-all` channel, text pings, and trades by id over REST."""

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
)
from k2.ingest.exchanges.okx.messages import CHANNEL
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Instrument, Status
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.registry import EXCHANGES

_IDLE_LIMIT = 30.0


class OkxVenue(Venue):
    """Simulated OKX."""

    spec = EXCHANGES["okx"]
    default_symbols = ("BTC-USDT", "ETH-USDT")
    new_symbol = "SOL-USDT"
    paths = ("/ws/v5/business",)
    rest_rate, rest_burst = 10.0, 20.0

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Handle subscriptions and the text `ping`."""
        if text == "ping":
            return ["pong"]
        request = json_message(text)
        if request.get("op") != "subscribe":
            return ['{"event":"error","code":"60012","msg":"Invalid request: expected op","connId":"a4d3ae55"}']
        replies = []
        for arg in request.get("args", []):
            raw_symbol = str(arg.get("instId")) if isinstance(arg, dict) else ""
            if not self.listings.listed(raw_symbol) or arg.get("channel") != CHANNEL:
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

    def violation(self, client: Client, now: float) -> str:
        """Report 30 seconds without a message from the client."""
        return "30 seconds of silence" if now - client.last_message_at > _IDLE_LIMIT else ""

    def limited(self) -> RestReply:
        """Return 429 with the code in the body."""
        return json_reply({"code": "50011", "msg": "Too Many Requests", "data": []}, 429)

    def rest(self, path: str, query: Mapping[str, str], history: History, now: int) -> RestReply:
        """Serve single fills, newest first, where `after` pages backwards, the instruments and the time."""
        raw_symbol, after = query.get("instId", ""), query.get("after", "")
        if path == "/api/v5/public/time":
            return json_reply({"code": "0", "msg": "", "data": [{"ts": str(now // 1000)}]})
        if path == "/api/v5/public/instruments":
            return self._instruments(query)
        if not self.listings.listed(raw_symbol):
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

    def _instruments(self, query: Mapping[str, str]) -> RestReply:
        if query.get("instType") != "SPOT":
            return json_reply({"code": "51000", "msg": "Parameter instType error", "data": []}, 400)
        rows = [_instrument(item) for item in self.listings if item.status is not Status.DELISTED]
        return json_reply({"code": "0", "msg": "", "data": rows})


def _instrument(item: Instrument) -> dict[str, Any]:
    state = "live" if item.status is Status.TRADING else "suspend"
    return {
        "alias": "", "baseCcy": item.pair.base, "category": "1", "ctMult": "", "ctType": "", "ctVal": "",
        "ctValCcy": "", "expTime": "", "instFamily": "", "instId": item.pair.raw_symbol, "instType": "SPOT",
        "lever": "10", "listTime": str(item.listed_at // 1000), "lotSz": step(item.lot), "minSz": step(item.lot),
        "maxLmtSz": "9999999999", "maxMktSz": "1000000", "optType": "", "quoteCcy": item.pair.quote,
        "ruleType": "normal", "settleCcy": "", "state": state, "stk": "", "tickSz": step(item.tick), "uly": "",
    }  # fmt: skip


def _row(trade: SimTrade) -> dict[str, Any]:
    return {
        "instId": trade.pair.raw_symbol, "tradeId": str(trade.id), "px": number(trade.price),
        "sz": number(trade.quantity), "side": "buy" if trade.buy else "sell", "ts": str(trade.time // 1000),
        "source": "0",
    }  # fmt: skip


VENUE = OkxVenue
