"""Simulated Binance spot: combined streams with SUBSCRIBE, trades over REST, exchangeInfo and time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from k2.ingest.exchanges.base_venue import (
    PROTOCOL_ERROR,
    Client,
    Cut,
    Limit,
    Reply,
    RestReply,
    Rules,
    Venue,
    count,
    json_message,
    json_reply,
    json_text,
    number,
    texts,
)
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Instrument, Status
from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.order_book import FIRST_AFTER_RESET, OrderBook, SimChange, SimQuote, sides
from k2.schemas.exchanges.registry import EXCHANGES

_TRADE, _QUOTE, _BOOK = "@trade", "@bookTicker", "@depth@100ms"
_DEPTH = "/api/v3/depth"
_PLACES = 8  # of prices and quantities, with trailing zeros
_TRADES = "/api/v3/historicalTrades", "/api/v3/aggTrades", "/api/v3/trades"
_WEIGHTS = {
    "/api/v3/historicalTrades": 25.0,
    "/api/v3/aggTrades": 4.0,
    "/api/v3/trades": 25.0,
    "/api/v3/exchangeInfo": 20.0,
    _DEPTH: 250.0,  # of 5,000 levels
}
_STATUSES = {Status.TRADING: "TRADING", Status.HALTED: "HALT", Status.DELISTED: "BREAK"}  # delisted ones stay listed


class BinanceVenue(Venue):
    """Simulated Binance."""

    spec = EXCHANGES["binance"]
    default_symbols = ("BTCUSDT", "ETHUSDT")
    new_symbol = "SOLUSDT"
    paths = ("/stream",)
    rest_rate, rest_burst, rest_window = 100.0, 6000.0, 60.0
    ban_after, ban_seconds = 10, 120.0
    ping_every = 20.0

    @staticmethod
    def limits() -> Rules:
        """Return Binance's limits; a request above 8 KB is ignored."""
        return Rules(messages=5, bytes=8192, symbols=1024, connects=300)

    def requested(self, text: str) -> Sequence[str]:
        """Return the symbols of a SUBSCRIBE request."""
        request = json_message(text)
        return _symbols(request, _TRADE, _QUOTE, _BOOK) if request.get("method") == "SUBSCRIBE" else ()

    def refuse(self, limit: Limit, text: str) -> Sequence[Reply]:
        """Close with 1008 for too many messages, refuse too many streams, and ignore what is too long."""
        if limit is Limit.BYTES:
            return ()
        if limit is Limit.SYMBOLS:
            error = {"code": 4, "msg": "Too many subscriptions"}
            return [json_text({"error": error, "id": json_message(text).get("id")})]
        return [Cut(PROTOCOL_ERROR, "Too many requests")]

    def receive(self, text: str, client: Client, history: History) -> Sequence[Reply]:
        """Handle SUBSCRIBE and UNSUBSCRIBE. As on the real exchange, unknown symbols are accepted and stay silent."""
        request = json_message(text)
        match request.get("method"):
            case "SUBSCRIBE":
                client.subscribed.update(_symbols(request, _TRADE))
                client.quotes.update(_symbols(request, _QUOTE))
                client.books.update(_symbols(request, _BOOK))
            case "UNSUBSCRIBE":
                client.subscribed.difference_update(_symbols(request, _TRADE))
                client.quotes.difference_update(_symbols(request, _QUOTE))
                client.books.difference_update(_symbols(request, _BOOK))
            case None:
                return ['{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}']
            case method:
                return [json_text({"code": 2, "msg": f"Invalid request: unknown variant `{method}`"})]
        return [json_text({"result": None, "id": request.get("id")})]

    def announcement(self, client: Client, now: int, begins: int) -> Sequence[str]:
        """Return the serverShutdown event."""
        return [json_text({"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": now // 1000}})]

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

    def quote_frames(self, quote: SimQuote) -> Iterator[str]:
        """Yield one frame, without a time, as on the real exchange."""
        bid, ask = quote.bid or (0, 0), quote.ask or (0, 0)
        data = {
            "u": quote.update, "s": quote.pair.raw_symbol, "b": number(bid[0], _PLACES), "B": number(bid[1], _PLACES),
            "a": number(ask[0], _PLACES), "A": number(ask[1], _PLACES),
        }  # fmt: skip
        yield json_text({"stream": f"{quote.pair.raw_symbol.lower()}{_QUOTE}", "data": data})

    def book_frames(self, change: SimChange) -> Iterator[str]:
        """Yield one frame with the changed levels."""
        if not change.levels:
            return
        raw_symbol = change.book.pair.raw_symbol
        bids, asks = sides(change.levels)
        data = {
            "e": "depthUpdate", "E": change.time // 1000, "s": raw_symbol, "U": change.first, "u": change.last,
            "b": _levels(bids), "a": _levels(asks),
        }  # fmt: skip
        yield json_text({"stream": f"{raw_symbol.lower()}{_BOOK}", "data": data})

    def reset_book(self, book: OrderBook) -> Iterator[str]:
        """Begin again; nothing says so."""
        book.update = FIRST_AFTER_RESET
        yield from ()

    def weight(self, path: str) -> float:
        """Return the documented weight."""
        return _WEIGHTS.get(path, 1.0)

    def limited(self, wait: float) -> RestReply:
        """Return 429 with Retry-After."""
        words = "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."
        return json_reply({"code": -1003, "msg": words}, 429, **{"Retry-After": str(ceil(wait))})

    def banned(self, wait: float, now: int) -> RestReply:
        """Return 418 with Retry-After and the time of the end."""
        until = now // 1000 + int(wait * 1000)
        words = f"Way too much request weight used; IP banned until {until}. Please use the websocket for live updates."
        return json_reply({"code": -1003, "msg": words}, 418, **{"Retry-After": str(ceil(wait))})

    def passing_errors(self) -> Sequence[RestReply]:
        """Return errors of the servers."""
        return (
            json_reply(
                {"code": -1001, "msg": "Internal error; unable to process your request. Please try again."}, 400
            ),
            json_reply({"code": -1007, "msg": "Timeout waiting for response from backend server."}, 408),
            json_reply({"code": -1000, "msg": "An unknown error occurred while processing the request."}, 500),
            RestReply(b"Unknown error, please check your request or try again later.", 503),
        )

    def rest_headers(self, used: int) -> Mapping[str, str]:
        """Return the counter of used weight."""
        return {"X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}

    def rest(self, path: str, query: Mapping[str, str], history: History, now: int) -> RestReply:
        """Serve the three trade endpoints, the order book, exchangeInfo and time."""
        if path == "/api/v3/time":
            return json_reply({"serverTime": now // 1000})
        if path == "/api/v3/exchangeInfo":
            return self._exchange_info(query, now)
        raw_symbol = query.get("symbol", "")
        if path not in {*_TRADES, _DEPTH}:
            return json_reply({"code": -1000, "msg": "Not found"}, 404)
        if self.listings.get(raw_symbol) is None:
            return json_reply({"code": -1121, "msg": "Invalid symbol."}, 400)
        if path == _DEPTH:
            return self._depth(raw_symbol, count(query, "limit", 5000), history)
        limit, first = count(query, "limit", 1000), query.get("fromId", "")
        trades = (
            history.from_id(raw_symbol, int(first), limit) if first.isdigit() else history.newest(raw_symbol, limit)
        )
        row = _aggregate if path.endswith("aggTrades") else _row
        return json_reply([row(trade) for trade in trades])

    def _depth(self, raw_symbol: str, limit: int, history: History) -> RestReply:
        (book,) = map(history.books.of, self.listings.pairs([raw_symbol]))
        bids, asks = book.levels(limit)
        return json_reply({"lastUpdateId": book.update, "bids": _levels(bids), "asks": _levels(asks)})

    def _exchange_info(self, query: Mapping[str, str], now: int) -> RestReply:
        names = _names(query)
        if any(self.listings.get(name) is None for name in names):
            return json_reply({"code": -1121, "msg": "Invalid symbol."}, 400)
        symbols = [_symbol(item) for item in self.listings if not names or item.pair.raw_symbol in names]
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}]
        document = {"timezone": "UTC", "serverTime": now // 1000, "rateLimits": limits, "exchangeFilters": []}
        return json_reply({**document, "symbols": symbols})


def _symbols(request: Mapping[str, Any], *streams: str) -> list[str]:
    return [name.partition("@")[0].upper() for name in texts(request.get("params", [])) if name.endswith(streams)]


def _levels(levels: Iterable[tuple[int, int]]) -> list[list[str]]:
    return [[number(price, _PLACES), number(quantity, _PLACES)] for price, quantity in levels]


def _names(query: Mapping[str, str]) -> set[str]:
    one, several = query.get("symbol", ""), query.get("symbols", "")
    return {one} if one else {name.strip('"') for name in several.strip("[]").split(",") if name}


def _symbol(item: Instrument) -> dict[str, Any]:
    status, assets = _STATUSES[item.status], {"baseAsset": item.pair.base, "quoteAsset": item.pair.quote}
    tick, lot = number(item.tick, _PLACES), number(item.lot, _PLACES)
    return {
        "symbol": item.pair.raw_symbol, "status": status, **assets, "baseAssetPrecision": 8, "quotePrecision": 8,
        "quoteAssetPrecision": 8, "orderTypes": ["LIMIT", "MARKET"], "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000.00000000", "stepSize": lot},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "avgPriceMins": 5},
        ],
        "permissions": [], "permissionSets": [["SPOT"]], "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
    }  # fmt: skip


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
