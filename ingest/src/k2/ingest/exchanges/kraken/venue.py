"""Simulated Kraken spot: websocket v2 at /v2, v1 at /, and Trades over REST."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2.ingest.exchanges.base_venue import (
    Client,
    RestReply,
    count,
    iso,
    json_message,
    json_reply,
    json_text,
    number,
    texts,
)
from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.spec import Pair

_SNAPSHOT = 50
_PLACES = 8  # of prices and quantities, with trailing zeros
_REST_PRICE = 5  # of prices over REST
_V1 = {"BTC": "XBT", "DOGE": "XDG"}


class KrakenVenue:
    """Simulated Kraken."""

    default_symbols = ("BTC/USD", "ETH/USD")
    paths = ("/v2", "/")
    rest_rate, rest_burst = 1.0, 15.0
    ping_every = 0.0

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = {pair.raw_symbol: pair for pair in pairs}
        self._v1_names = {_v1_name(pair): pair for pair in pairs}
        self._rest_names = {_v1_name(pair).replace("/", ""): pair for pair in pairs}

    def on_connect(self, client: Client) -> list[str]:
        """Return the system status."""
        if client.protocol == "/":
            return ['{"connectionID":18239578009413566319,"event":"systemStatus","status":"online","version":"1.8.3"}']
        status = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": 13834774380200032777}
        return [json_text({"channel": "status", "type": "update", "data": [status]})]

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Handle subscriptions and pings of both protocols."""
        request = json_message(text)
        if client.protocol == "/":
            return self._receive_v1(request, client, history)
        if request.get("method") == "ping":
            return [json_text({"method": "pong", "req_id": request.get("req_id")})]
        params = request.get("params", {})
        if request.get("method") != "subscribe" or params.get("channel") != "trade":
            return ['{"error":"Method or channel not supported","method":"subscribe","success":false}']
        replies: list[str] = []
        for raw_symbol in texts(params.get("symbol", [])):
            replies += self._subscribe(
                raw_symbol, params.get("snapshot") is True, request.get("req_id"), client, history
            )
        return replies

    def _subscribe(
        self, raw_symbol: str, snapshot: bool, number: object, client: Client, history: History
    ) -> list[str]:
        if raw_symbol not in self._pairs:
            error = f"Currency pair not supported {raw_symbol}"
            refusal = {"error": error, "method": "subscribe", "success": False, "symbol": raw_symbol, "req_id": number}
            return [json_text(refusal)]
        client.subscribed.add(raw_symbol)
        result = {"channel": "trade", "snapshot": snapshot, "symbol": raw_symbol}
        replies = [json_text({"method": "subscribe", "result": result, "success": True, "req_id": number})]
        recent = history.newest(raw_symbol, _SNAPSHOT)
        if snapshot and recent:
            replies.append(_v2_frame(recent, "snapshot"))
        return replies

    def _receive_v1(self, request: dict[str, Any], client: Client, history: History) -> list[str]:
        if request.get("event") == "ping":
            return [json_text({"event": "pong", "reqid": request.get("reqid")})]
        replies = []
        for name in texts(request.get("pair", [])):
            pair = self._v1_names.get(name)
            status = {"channelName": "trade", "event": "subscriptionStatus", "pair": name}
            if pair is None:
                status |= {"status": "error", "errorMessage": f"Currency pair not supported {name}"}
                replies.append(json_text(status))
                continue
            client.subscribed.add(pair.raw_symbol)
            replies.append(json_text({"channelID": 1, **status, "status": "subscribed"}))
            if recent := history.newest(pair.raw_symbol, _SNAPSHOT):
                replies.append(_v1_frame(recent))
        return replies

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield one frame per batch."""
        yield _v1_frame(trades) if protocol == "/" else _v2_frame(trades, "update")

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """Return one heartbeat."""
        return ['{"event":"heartbeat"}' if client.protocol == "/" else '{"channel":"heartbeat"}']

    def violation(self, client: Client, now: float) -> str:
        """Return nothing: no rule is enforced."""
        return ""

    def weight(self, path: str) -> float:
        """Return 1: every request costs the same."""
        return 1.0

    def limited(self) -> RestReply:
        """Return 200 with the error in the body."""
        return json_reply({"error": ["EAPI:Rate limit exceeded"]})

    def rest(self, path: str, query: Mapping[str, str], history: History) -> RestReply:
        """Serve trades since a time in nanoseconds; the cursor is exclusive."""
        pair = self._rest_names.get(query.get("pair", ""))
        if path != "/0/public/Trades" or pair is None:
            return json_reply({"error": ["EQuery:Unknown asset pair"]})
        limit, since = count(query, "count", 1000), query.get("since", "")
        if since.isdigit():
            start = (int(since) - 1000) // 1000
            later = [
                trade for trade in history.after_time(pair.raw_symbol, start, limit * 2) if _nanos(trade) > int(since)
            ]
            trades: Sequence[SimTrade] = later[:limit]
        else:
            trades = history.newest(pair.raw_symbol, limit)
        last = str(_nanos(trades[-1])) if trades else (since or "1")
        rows = ",".join(_rest_row(trade) for trade in trades)
        key = f"X{query['pair'][:3]}Z{query['pair'][3:]}"
        return RestReply(f'{{"error":[],"result":{{"{key}":[{rows}],"last":"{last}"}}}}'.encode())

    def trade_id(self, trade: SimTrade) -> str:
        """Return the number."""
        return str(trade.id)


def _nanos(trade: SimTrade) -> int:
    """Return the REST time, which has one digit more than the websocket's. It never decreases."""
    return trade.time * 1000 + trade.time // 1000 % 10 * 100


def _rest_row(trade: SimTrade) -> str:
    whole, nanos = divmod(_nanos(trade), 10**9)
    return (
        f'["{number(trade.price, _REST_PRICE)}","{number(trade.quantity, _PLACES)}",{whole}.{nanos // 100:07d},'
        f'"{"b" if trade.buy else "s"}","m","",{trade.id}]'
    )


def _v2_frame(trades: Sequence[SimTrade], kind: str) -> str:
    rows = ",".join(
        f'{{"symbol":"{trade.pair.raw_symbol}","side":"{"buy" if trade.buy else "sell"}","price":{number(trade.price)},'
        f'"qty":{number(trade.quantity, _PLACES)},"ord_type":"market","trade_id":{trade.id},'
        f'"timestamp":"{iso(trade)}"}}'
        for trade in trades
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'


def _v1_frame(trades: Sequence[SimTrade]) -> str:
    rows = [
        [
            number(d.price, _PLACES),
            number(d.quantity, _PLACES),
            f"{d.time // 10**6}.{d.time % 10**6:06d}",
            "b" if d.buy else "s",
            "m",
            "",
        ]
        for d in trades
    ]
    return json_text([1, rows, "trade", _v1_name(trades[0].pair)])


def _v1_name(pair: Pair) -> str:
    return f"{_V1.get(pair.base, pair.base)}/{_V1.get(pair.quote, pair.quote)}"


VENUE = KrakenVenue
