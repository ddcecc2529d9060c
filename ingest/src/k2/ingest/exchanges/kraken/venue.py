"""Simulated Kraken spot: websocket v2 at /v2, v1 at /, and over REST Trades, AssetPairs and Time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import dropwhile
from typing import Any

from k2.ingest.exchanges.base_venue import (
    Client,
    Cut,
    Limit,
    Reply,
    RestReply,
    Rules,
    Venue,
    count,
    decimals,
    iso,
    json_message,
    json_reply,
    json_text,
    number,
    step,
    texts,
)
from k2.ingest.exchanges.kraken.venue_books import KrakenBooks
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Instrument, Status
from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.order_book import OrderBook, SimChange, SimQuote
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import from_micros

_TRADE, _QUOTE, _BOOK = "trade", "ticker", "book"
_SNAPSHOT = 50
_PLACES = 8  # of prices and quantities, with trailing zeros
_REST_PRICE = 5  # of prices over REST
_V1 = {"BTC": "XBT", "DOGE": "XDG"}
# Kraken's oldest assets have a letter before their name; pairs of two of them have it in their key, except a few.
_OLD_COINS = frozenset({"XBT", "ETH", "XRP", "LTC", "XLM", "ETC", "XMR", "ZEC", "REP", "MLN", "XDG"})
_OLD_CURRENCIES = frozenset({"USD", "EUR", "GBP", "CAD", "JPY", "AUD"})


class KrakenVenue(Venue):
    """Simulated Kraken."""

    spec = EXCHANGES["kraken"]
    default_symbols = ("BTC/USD", "ETH/USD")
    new_symbol = "SOL/USD"
    paths = ("/v2", "/")
    rest_rate, rest_burst = 1.0, 15.0
    end = Cut(1001, "CloudFlare WebSocket proxy restarting")

    def __init__(self, pairs: Sequence[Pair]) -> None:
        super().__init__(pairs)
        self._books = KrakenBooks()

    def on_connect(self, client: Client) -> list[str]:
        """Return the system status."""
        if client.protocol == "/":
            return ['{"connectionID":18239578009413566319,"event":"systemStatus","status":"online","version":"1.8.3"}']
        return [_status()]

    @staticmethod
    def limits() -> Rules:
        """Return the limit of connections that Cloudflare keeps for Kraken."""
        return Rules(connects=150, connects_period=600.0)

    def requested(self, text: str) -> Sequence[str]:
        """Return the symbols of a subscribe request of either protocol."""
        request = json_message(text)
        if request.get("method") == "subscribe" and isinstance(request.get("params"), dict):
            return texts(request["params"].get("symbol", []))
        if request.get("event") == "subscribe":
            pairs = (self._pair(name, _v1_name) for name in texts(request.get("pair", [])))
            return [pair.raw_symbol for pair in pairs if pair]
        return ()

    def refuse(self, limit: Limit, text: str) -> Sequence[Reply]:
        """Refuse a request because of its rate; Kraken has no other limits."""
        request, words = json_message(text), "Exceeded msg rate"
        if "event" in request:
            error = {"errorMessage": words, "event": "subscriptionStatus", "status": "error"}
            return [json_text({**error, **({"reqid": request["reqid"]} if "reqid" in request else {})})]
        method, number = request.get("method"), request.get("req_id")
        return [json_text({"error": words, "method": method, "success": False, "req_id": number})]

    def announcement(self, client: Client, now: int, begins: int) -> Sequence[str]:
        """Return the status: v2 announces the maintenance, v1 only says that it has begun."""
        if client.protocol == "/":
            return [
                '{"connectionID":18239578009413566319,"event":"systemStatus","status":"maintenance","version":"1.9.1"}'
            ]
        window = {
            "phase": "imminent_5m", "services": ["spot_ws"], "client_action": "disconnect_and_wait",
            "begins_at": from_micros(begins).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }  # fmt: skip
        return [_status(upcoming_maintenance=[window], emergency=[])]

    def receive(self, text: str, client: Client, history: History) -> Sequence[Reply]:
        """Handle subscriptions and pings of both protocols."""
        request = json_message(text)
        if client.protocol == "/":
            return self._receive_v1(request, client, history)
        method, number = request.get("method"), request.get("req_id")
        if method == "ping":
            return [json_text({"method": "pong", "req_id": number})]
        params = request.get("params", {})
        channel = params.get("channel")
        if method not in {"subscribe", "unsubscribe"} or channel not in {_TRADE, _QUOTE, _BOOK}:
            return ['{"error":"Method or channel not supported","method":"subscribe","success":false}']
        replies: list[str] = []
        for raw_symbol in texts(params.get("symbol", [])):
            if method == "unsubscribe":
                replies.append(_unsubscribe(raw_symbol, channel, number, client))
            else:
                replies += self._subscribe(raw_symbol, params, number, client, history)
        return replies

    def _subscribe(
        self, raw_symbol: str, params: Mapping[str, Any], number: object, client: Client, history: History
    ) -> list[str]:
        channel, snapshot = params["channel"], params.get("snapshot") is True
        subscribed = _subscribed(client, channel)
        listed = self.listings.listed(raw_symbol)
        if not listed or raw_symbol in subscribed:
            error = "Already subscribed" if listed else f"Currency pair not supported {raw_symbol}"
            refusal = {"error": error, "method": "subscribe", "success": False, "symbol": raw_symbol, "req_id": number}
            return [json_text(refusal)]
        subscribed.add(raw_symbol)
        result = {"channel": channel, "snapshot": snapshot, "symbol": raw_symbol}
        if channel == _QUOTE:
            result["event_trigger"] = params.get("event_trigger", "trades")
        if channel == _BOOK:
            result["depth"] = self._books.depth = int(params.get("depth", 10))
        replies = [json_text({"method": "subscribe", "result": result, "success": True, "req_id": number})]
        recent = history.newest(raw_symbol, _SNAPSHOT) if channel == _TRADE else ()
        if snapshot and recent:
            replies.append(_v2_frame(recent, "snapshot"))
        if snapshot and channel == _QUOTE and (quote := history.books.newest(raw_symbol)):
            replies.append(_ticker(quote, "snapshot"))
        if snapshot and channel == _BOOK:
            books = map(history.books.of, self.listings.pairs([raw_symbol]))
            replies += [self._books.snapshot(book, self._steps(raw_symbol)) for book in books]
        return replies

    def _receive_v1(self, request: dict[str, Any], client: Client, history: History) -> list[str]:
        if request.get("event") == "ping":
            return [json_text({"event": "pong", "reqid": request.get("reqid")})]
        replies = []
        for name in texts(request.get("pair", [])):
            pair = self._pair(name, _v1_name)
            status = {"channelName": "trade", "event": "subscriptionStatus", "pair": name}
            status |= {"reqid": request["reqid"]} if "reqid" in request else {}
            if pair is None:
                status |= {"status": "error", "errorMessage": f"Currency pair not supported {name}"}
                replies.append(json_text(status))
                continue
            if request.get("event") == "unsubscribe":
                client.subscribed.discard(pair.raw_symbol)
                replies.append(json_text({"channelID": 1, **status, "status": "unsubscribed"}))
                continue
            client.subscribed.add(pair.raw_symbol)
            replies.append(json_text({"channelID": 1, **status, "status": "subscribed"}))
            if recent := history.newest(pair.raw_symbol, _SNAPSHOT):
                replies.append(_v1_frame(recent))
        return replies

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield one frame per batch."""
        yield _v1_frame(trades) if protocol == "/" else _v2_frame(trades, "update")

    def quote_frames(self, quote: SimQuote) -> Iterator[str]:
        """Yield one ticker."""
        yield _ticker(quote, "update")

    def reset_book(self, book: OrderBook) -> Iterator[str]:
        """Yield another snapshot: there are no numbers."""
        yield self._books.snapshot(book, self._steps(book.pair.raw_symbol))

    def book_frames(self, change: SimChange) -> Iterator[str]:
        """Yield what changed within the depth; levels that fall out of it are not deleted."""
        yield self._books.update(change.book, self._steps(change.book.pair.raw_symbol))

    def _steps(self, raw_symbol: str) -> tuple[int, int]:
        """Return the decimals of prices and quantities."""
        item = self.listings.get(raw_symbol)
        return (decimals(item.tick), decimals(item.lot)) if item else (1, _PLACES)

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """Return one heartbeat."""
        return ['{"event":"heartbeat"}' if client.protocol == "/" else '{"channel":"heartbeat"}']

    def limited(self, wait: float) -> RestReply:
        """Return 200 with the error in the body."""
        return _error("EAPI:Rate limit exceeded")

    def banned(self, wait: float, now: int) -> RestReply:
        """Return 200 with the lockout in the body."""
        return _error("EGeneral:Temporary lockout")

    def passing_errors(self) -> Sequence[RestReply]:
        """Return errors of the servers, and of Cloudflare before them."""
        return (
            _error("EGeneral:Internal error"),
            _error("EService:Unavailable"),
            _error("EService:Busy"),
            RestReply(
                b"<!DOCTYPE html><title>api.kraken.com | 520: Web server is returning an unknown error</title>", 520
            ),
        )

    def rest(self, path: str, query: Mapping[str, str], history: History, now: int) -> RestReply:
        """Serve trades since a time in nanoseconds, where the cursor is exclusive, the pairs and the time."""
        if path == "/0/public/Time":
            text = from_micros(now).strftime("%a, %d %b %y %H:%M:%S +0000")
            return json_reply({"error": [], "result": {"unixtime": now // 10**6, "rfc1123": text}})
        if path == "/0/public/AssetPairs":
            pairs = {_key(item.pair): _asset_pair(item) for item in self.listings if item.status is not Status.DELISTED}
            return json_reply({"error": [], "result": pairs})
        if path != "/0/public/Trades":
            return json_reply({"error": ["EGeneral:Unknown method"]}, 404)
        pair = self._pair(query.get("pair", ""), _altname)
        if pair is None:
            return json_reply({"error": ["EQuery:Unknown asset pair"]})
        limit, since = count(query, "count", 1000), query.get("since", "")
        if since.isdigit():
            start = (int(since) - 1000) // 1000
            later = history.after_time(pair.raw_symbol, start, limit * 2)
            # A late trade stands where it came, so only the first rows are compared with the cursor.
            trades: Sequence[SimTrade] = list(dropwhile(lambda trade: _nanos(trade) <= int(since), later))[:limit]
        else:
            trades = history.newest(pair.raw_symbol, limit)
        last = str(max(map(_nanos, trades))) if trades else (since or "1")
        rows = ",".join(_rest_row(trade) for trade in trades)
        return RestReply(f'{{"error":[],"result":{{"{_key(pair)}":[{rows}],"last":"{last}"}}}}'.encode())

    def _pair(self, name: str, spelling: Callable[[Pair], str]) -> Pair | None:
        pairs = (item.pair for item in self.listings if item.status is not Status.DELISTED)
        return next((pair for pair in pairs if spelling(pair) == name), None)


def _status(**notices: Sequence[object]) -> str:
    status = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": 13834774380200032777}
    return json_text({"channel": "status", "type": "update", "data": [{**status, **notices}]})


def _subscribed(client: Client, channel: str) -> set[str]:
    if channel == _BOOK:
        return client.books
    return client.quotes if channel == _QUOTE else client.subscribed


def _unsubscribe(raw_symbol: str, channel: str, number: object, client: Client) -> str:
    result = {"channel": channel, "symbol": raw_symbol}
    answer = {"method": "unsubscribe", "result": result, "success": True, "req_id": number}
    subscribed = _subscribed(client, channel)
    if raw_symbol not in subscribed:
        words = "Subscription Not Found"
        answer = {
            "error": words,
            "method": "unsubscribe",
            "success": False,
            "symbol": raw_symbol,
            "req_id": number,
        }
    subscribed.discard(raw_symbol)
    return json_text(answer)


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


def _ticker(quote: SimQuote, kind: str) -> str:
    """Return the ticker as `event_trigger` bbo gives it."""
    bid, ask = quote.bid or (0, 0), quote.ask or (0, 0)
    return (
        f'{{"channel":"{_QUOTE}","type":"{kind}","data":[{{"symbol":"{quote.pair.raw_symbol}",'
        f'"bid":{number(bid[0])},"bid_qty":{number(bid[1], _PLACES)},"ask":{number(ask[0])},'
        f'"ask_qty":{number(ask[1], _PLACES)},"last":{number(ask[0])},"volume":1.0,"vwap":{number(ask[0])},'
        f'"low":{number(bid[0])},"high":{number(ask[0])},"change":0.0,"change_pct":0.0,"timestamp":"{iso(quote)}"}}]}}'
    )


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


def _error(words: str) -> RestReply:
    return json_reply({"error": [words]})


def _altname(pair: Pair) -> str:
    return _v1_name(pair).replace("/", "")


def _old_name(asset: str) -> str:
    name = _V1.get(asset, asset)
    return f"X{name}" if name in _OLD_COINS else f"Z{name}" if name in _OLD_CURRENCIES else name


def _key(pair: Pair) -> str:
    """Return the name of a pair in answers: XXBTZUSD for XBTUSD, but SOLUSD and XDGUSD."""
    base, quote = _old_name(pair.base), _old_name(pair.quote)
    old = base != pair.base and quote != pair.quote and pair.base != "DOGE"
    return base + quote if old else _altname(pair)


def _asset_pair(item: Instrument) -> dict[str, Any]:
    pair, status = item.pair, "online" if item.status is Status.TRADING else "cancel_only"
    return {
        "altname": _altname(pair), "wsname": _v1_name(pair), "aclass_base": "currency", "base": _old_name(pair.base),
        "aclass_quote": "currency", "quote": _old_name(pair.quote), "lot": "unit", "cost_decimals": 5,
        "pair_decimals": decimals(item.tick), "lot_decimals": decimals(item.lot), "lot_multiplier": 1,
        "leverage_buy": [], "leverage_sell": [], "fees": [[0, 0.4]], "fees_maker": [[0, 0.25]],
        "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40, "ordermin": "0.0001", "costmin": "0.5",
        "tick_size": step(item.tick), "status": status,
    }  # fmt: skip


VENUE = KrakenVenue
