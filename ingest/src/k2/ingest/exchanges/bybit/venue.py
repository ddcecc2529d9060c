"""Simulated Bybit v5 spot: publicTrade, pings, and over REST the newest 60 trades, instruments and time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2.ingest.exchanges.base_venue import (
    Client,
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
    step,
    texts,
)
from k2.ingest.exchanges.bybit import venue_books
from k2.ingest.exchanges.bybit.venue_books import BybitBooks
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Instrument, Status
from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.order_book import OrderBook, SimChange, SimQuote
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair

_TOPIC, _QUOTES = "publicTrade.", "orderbook.1."
_STATUS = "system.status"
_STATUS_PATH = "/v5/public/misc/status"
_WORDS = {
    Limit.ARGUMENTS: "args size >10",
    Limit.CHARACTERS: "args length exceeds the limit",
    Limit.MESSAGES: "Too many visits!",
    Limit.BUSY: "Too many visits!",
}
_ROWS = 60
_ID_BASE = 2_290_000_000_000_000_000


class BybitVenue(Venue):
    """Simulated Bybit."""

    spec = EXCHANGES["bybit"]
    default_symbols = ("BTCUSDT", "ETHUSDT")
    new_symbol = "SOLUSDT"
    paths = ("/v5/public/spot", _STATUS_PATH)
    rest_rate, rest_burst = 120.0, 600.0
    connects_status = 403
    ban_after, ban_seconds = 1, 600.0

    def __init__(self, pairs: Sequence[Pair]) -> None:
        super().__init__(pairs)
        self._books = BybitBooks()

    @staticmethod
    def limits() -> Rules:
        """Return Bybit's limits for spot."""
        return Rules(arguments=10, characters=21_000, connects=500)

    def argument(self, raw_symbol: str) -> str:
        """Return the topic."""
        return _TOPIC + raw_symbol

    def requested(self, text: str) -> Sequence[str]:
        """Return the symbols of a subscribe request."""
        request = json_message(text)
        topics = texts(request.get("args", [])) if request.get("op") == "subscribe" else []
        return _symbols(topics, _TOPIC) + _symbols(topics, _QUOTES) + venue_books.symbols(topics)

    def refuse(self, limit: Limit, text: str) -> Sequence[Reply]:
        """Refuse the request as a whole."""
        return [_answer(json_message(text), _WORDS.get(limit, "args length exceeds the limit"))]

    def receive(self, text: str, client: Client, history: History) -> Sequence[Reply]:
        """Handle pings and subscriptions; a request succeeds or fails as a whole."""
        request = json_message(text)
        topics = texts(request.get("args", []))
        match request.get("op"):
            case "ping":
                return ['{"success":true,"ret_msg":"pong","conn_id":"465772b1","op":"ping"}']
            case "subscribe" if client.protocol == _STATUS_PATH:
                bad = next((topic for topic in topics if topic != _STATUS), "")
                return [_answer(request, f"error:handler not found,topic:{bad}" if bad else "")]
            case "subscribe":
                if words := self._refusal(topics, client):
                    return [_answer(request, words)]
                client.subscribed.update(_symbols(topics, _TOPIC))
                client.quotes.update(_symbols(topics, _QUOTES))
                client.books.update(venue_books.symbols(topics))
                tops = [history.books.newest(raw_symbol) for raw_symbol in _symbols(topics, _QUOTES)]
                books = map(history.books.of, self.listings.pairs(venue_books.symbols(topics)))
                snapshots = self._books.subscribe(topics, {book.pair.raw_symbol: book for book in books})
                return [
                    _answer(request),
                    *snapshots,
                    *(frame for top in tops if top for frame in self.quote_frames(top)),
                ]
            case "unsubscribe":
                client.subscribed.difference_update(_symbols(topics, _TOPIC))
                client.quotes.difference_update(_symbols(topics, _QUOTES))
                client.books.difference_update(venue_books.symbols(topics))
                return [_answer(request)]
        return [_answer(request, "error:unknown op")]

    def _refusal(self, topics: Sequence[str], client: Client) -> str:
        for topic in topics:
            if not topic.startswith((_TOPIC, _QUOTES, *venue_books.TOPICS)):
                return f"error:handler not found,topic:{topic}"
            symbol = topic.rpartition(".")[2]
            if not self.listings.listed(symbol):
                return f"Invalid symbol :[{topic}]"
            if symbol in _subscribed(topic, client):
                return f"error:already subscribed,topic:{topic}"
        return ""

    def announcement(self, client: Client, now: int, begins: int) -> Sequence[str]:
        """Return the system's status, on the websocket of announcements only."""
        if client.protocol != _STATUS_PATH:
            return ()
        row = {
            "id": "4d95b2a0-587f-11f0-bcc9-56f28c94d6ea", "title": "System upgrade", "state": "scheduled",
            "begin": str(begins // 1000), "end": str(begins // 1000 + 600_000), "href": "",
            "serviceTypes": [2, 3, 4, 5], "product": [1, 2], "uidSuffix": [], "maintainType": 1, "env": 1,
        }  # fmt: skip
        return [json_text({"topic": _STATUS, "ts": now // 1000, "data": [row]})]

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield one frame per batch; its trades share a sequence number."""
        if protocol == _STATUS_PATH:
            return
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

    def quote_frames(self, quote: SimQuote) -> Iterator[str]:
        """Yield one snapshot of depth 1."""
        sides = {"b": quote.bid, "a": quote.ask}
        levels = {name: [[number(side[0]), number(side[1])]] if side else [] for name, side in sides.items()}
        data = {"s": quote.pair.raw_symbol, **levels, "u": quote.update, "seq": quote.update * 7}
        millis, topic = quote.time // 1000, _QUOTES + quote.pair.raw_symbol
        yield json_text({"topic": topic, "ts": millis + 3, "type": "snapshot", "data": data, "cts": millis})

    def book_frames(self, change: SimChange) -> Iterator[str]:
        """Yield the changed levels; the exchange deletes those that fall out of the depth itself."""
        yield self._books.update(change)

    def reset_book(self, book: OrderBook) -> Iterator[str]:
        """Yield the snapshot with the number 1 that follows a restart of the service."""
        book.moment = 1
        yield self._books.snapshot(book)

    def limited(self, wait: float) -> RestReply:
        """Return 200 with the code in the body."""
        return json_reply({"retCode": 10006, "retMsg": "Too many visits!", "result": {}})

    def banned(self, wait: float, now: int) -> RestReply:
        """Return 403, which lasts ten minutes."""
        return RestReply(b"403, access too frequent", 403)

    def passing_errors(self) -> Sequence[RestReply]:
        """Return errors of the servers."""
        return (
            json_reply({"retCode": 10016, "retMsg": "Internal Server Error", "result": {}}),
            json_reply({"retCode": 10000, "retMsg": "Server Timeout", "result": {}}),
            RestReply(b"<html><head><title>502 Bad Gateway</title></head></html>", 502),
            RestReply(b"<html><head><title>403 Forbidden</title></head></html>", 403),
        )

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
                "execId": self.trade_id(trade), "symbol": trade.pair.raw_symbol, "price": number(trade.price),
                "size": number(trade.quantity), "side": "Buy" if trade.buy else "Sell", "time": str(trade.time // 1000),
                "isBlockTrade": False,
            }
            for trade in reversed(trades)
        ]  # fmt: skip
        return _reply({"category": "spot", "list": rows}, now)

    def trade_id(self, trade: SimTrade) -> str:
        """Return an id that is unique across symbols and not consecutive."""
        return trade.name or str(_ID_BASE + trade.id * 1000 + self.listings.place(trade.pair.raw_symbol))


def _symbols(topics: Sequence[str], prefix: str) -> list[str]:
    return [topic.removeprefix(prefix) for topic in topics if topic.startswith(prefix)]


def _answer(request: Mapping[str, Any], refusal: str = "") -> str:
    number, operation = str(request.get("req_id", "")), str(request.get("op", ""))
    answer = {"success": not refusal, "ret_msg": refusal, "conn_id": "465772b1", "req_id": number, "op": operation}
    return json_text(answer)


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


def _subscribed(topic: str, client: Client) -> set[str]:
    if topic.startswith(tuple(venue_books.TOPICS)):
        return client.books
    return client.quotes if topic.startswith(_QUOTES) else client.subscribed


VENUE = BybitVenue
