"""Kraken spot's side: websocket v2 at /v2, v1 at /, and Trades over REST."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2.ingest.exchanges.base_venue import Answer, Client, answer, count, iso, json_text, message, number, texts
from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import Deal
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import plain

_SNAPSHOT = 50
_V1 = {"BTC": "XBT", "DOGE": "XDG"}


class KrakenVenue:
    """Simulated Kraken."""

    paths = ("/v2", "/")
    rest_rate, rest_burst = 1.0, 15.0
    ping_every = 0.0

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = {pair.native: pair for pair in pairs}
        self._v1_names = {_v1_name(pair): pair for pair in pairs}
        self._rest_names = {_v1_name(pair).replace("/", ""): pair for pair in pairs}

    def greet(self, client: Client) -> list[str]:
        """The system's status."""
        if client.protocol == "/":
            return ['{"connectionID":18239578009413566319,"event":"systemStatus","status":"online","version":"1.8.3"}']
        status = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": 13834774380200032777}
        return [json_text({"channel": "status", "type": "update", "data": [status]})]

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Subscriptions and pings of both protocols."""
        asked = message(text)
        if client.protocol == "/":
            return self._receive_v1(asked, client, history)
        if asked.get("method") == "ping":
            return [json_text({"method": "pong", "req_id": asked.get("req_id")})]
        params = asked.get("params", {})
        if asked.get("method") != "subscribe" or params.get("channel") != "trade":
            return ['{"error":"Method or channel not supported","method":"subscribe","success":false}']
        replies: list[str] = []
        for native in texts(params.get("symbol", [])):
            replies += self._subscribe(native, params.get("snapshot") is True, asked.get("req_id"), client, history)
        return replies

    def _subscribe(self, native: str, snapshot: bool, number: object, client: Client, history: History) -> list[str]:
        if native not in self._pairs:
            error = f"Currency pair not supported {native}"
            refusal = {"error": error, "method": "subscribe", "success": False, "symbol": native, "req_id": number}
            return [json_text(refusal)]
        client.subscribed.add(native)
        result = {"channel": "trade", "snapshot": snapshot, "symbol": native}
        replies = [json_text({"method": "subscribe", "result": result, "success": True, "req_id": number})]
        recent = history.newest(native, _SNAPSHOT)
        if snapshot and recent:
            replies.append(_v2_frame(recent, "snapshot"))
        return replies

    def _receive_v1(self, asked: dict[str, Any], client: Client, history: History) -> list[str]:
        if asked.get("event") == "ping":
            return [json_text({"event": "pong", "reqid": asked.get("reqid")})]
        replies = []
        for name in texts(asked.get("pair", [])):
            pair = self._v1_names.get(name)
            status = {"channelName": "trade", "event": "subscriptionStatus", "pair": name}
            if pair is None:
                status |= {"status": "error", "errorMessage": f"Currency pair not supported {name}"}
                replies.append(json_text(status))
                continue
            client.subscribed.add(pair.native)
            replies.append(json_text({"channelID": 1, **status, "status": "subscribed"}))
            if recent := history.newest(pair.native, _SNAPSHOT):
                replies.append(_v1_frame(recent))
        return replies

    def frames(self, deals: Sequence[Deal], protocol: str = "") -> Iterator[str]:
        """One frame a sweep."""
        yield _v1_frame(deals) if protocol == "/" else _v2_frame(deals, "update")

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """One a second."""
        return ['{"event":"heartbeat"}' if client.protocol == "/" else '{"channel":"heartbeat"}']

    def violation(self, client: Client, now: float) -> str:
        """None that a client of ours could break."""
        return ""

    def weight(self, path: str) -> float:
        """One request, one token."""
        return 1.0

    def limited(self) -> Answer:
        """200, with the error inside."""
        return answer({"error": ["EAPI:Rate limit exceeded"]})

    def rest(self, path: str, query: Mapping[str, str], history: History) -> Answer:
        """Trades since a time in nanoseconds; the cursor is exclusive."""
        pair = self._rest_names.get(query.get("pair", ""))
        if path != "/0/public/Trades" or pair is None:
            return answer({"error": ["EQuery:Unknown asset pair"]})
        limit, since = count(query, "count", 1000), query.get("since", "")
        if since.isdigit():
            start = (int(since) - 1000) // 1000
            later = [deal for deal in history.after_time(pair.native, start, limit * 2) if _nanos(deal) > int(since)]
            deals: Sequence[Deal] = later[:limit]
        else:
            deals = history.newest(pair.native, limit)
        last = str(_nanos(deals[-1])) if deals else (since or "1")
        rows = ",".join(_rest_row(deal) for deal in deals)
        key = f"X{query['pair'][:3]}Z{query['pair'][3:]}"
        return Answer(f'{{"error":[],"result":{{"{key}":[{rows}],"last":"{last}"}}}}'.encode())

    def trade_id(self, deal: Deal) -> str:
        """The number."""
        return str(deal.id)


def _nanos(deal: Deal) -> int:
    """REST's times have a digit that the websocket's lack. They never go back, or a cursor would skip trades."""
    return deal.time * 1000 + deal.time // 1000 % 10 * 100


def _rest_row(deal: Deal) -> str:
    whole, nanos = divmod(_nanos(deal), 10**9)
    return (
        f'["{plain(deal.price)[:-3]}","{plain(deal.quantity)}",{whole}.{nanos // 100:07d},'
        f'"{"b" if deal.buy else "s"}","m","",{deal.id}]'
    )


def _v2_frame(deals: Sequence[Deal], kind: str) -> str:
    rows = ",".join(
        f'{{"symbol":"{deal.pair.native}","side":"{"buy" if deal.buy else "sell"}","price":{number(deal.price)},'
        f'"qty":{plain(deal.quantity)},"ord_type":"market","trade_id":{deal.id},"timestamp":"{iso(deal)}"}}'
        for deal in deals
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'


def _v1_frame(deals: Sequence[Deal]) -> str:
    rows = [
        [plain(d.price), plain(d.quantity), f"{d.time // 10**6}.{d.time % 10**6:06d}", "b" if d.buy else "s", "m", ""]
        for d in deals
    ]
    return json_text([1, rows, "trade", _v1_name(deals[0].pair)])


def _v1_name(pair: Pair) -> str:
    return f"{_V1.get(pair.base, pair.base)}/{_V1.get(pair.quote, pair.quote)}"
