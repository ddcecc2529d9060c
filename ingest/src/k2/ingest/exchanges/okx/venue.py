"""Simulated OKX v5: single fills (`trades-all`), aggregates (`trades`), text pings, and REST."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
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
from k2.ingest.exchanges.okx.messages import BOOK_CHANNEL, CHANNEL, QUOTES_CHANNEL
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Instrument, Status
from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.order_book import FIRST_AFTER_RESET, Levels, OrderBook, SimChange, SimQuote, sides
from k2.schemas.exchanges.registry import EXCHANGES

_IDLE_LIMIT = 30.0
_PUBLIC = "/ws/v5/public"
_CHANNELS = {"/ws/v5/business": CHANNEL, _PUBLIC: "trades"}


class OkxVenue(Venue):
    """Simulated OKX."""

    spec = EXCHANGES["okx"]
    default_symbols = ("BTC-USDT", "ETH-USDT")
    new_symbol = "SOL-USDT"
    paths = tuple(_CHANNELS)
    rest_rate, rest_burst = 10.0, 20.0

    @staticmethod
    def limits() -> Rules:
        """Return OKX's limits: 480 requests an hour, 64 KB a request, 3 connections a second."""
        return Rules(messages=480, messages_period=3600.0, bytes=64 << 10, connects=3, connects_period=1.0)

    def requested(self, text: str) -> Sequence[str]:
        """Return the instruments of a subscribe request."""
        request = json_message(text)
        arguments = request.get("args", []) if request.get("op") == "subscribe" else []
        return texts(argument.get("instId") for argument in arguments if isinstance(argument, dict))

    def refuse(self, limit: Limit, text: str) -> Sequence[Reply]:
        """Send an error, which refuses the request as a whole."""
        code, words = "60014", "Requests too frequent"
        if limit in {Limit.BYTES, Limit.ARGUMENTS}:
            code, words = "60028", "The current operation is not supported by this URL. The request is too long."
        elif limit in {Limit.SYMBOLS, Limit.CHARACTERS}:
            code, words = "64007", "Endpoint request overload: too many subscriptions"
        return [json_text({"event": "error", "code": code, "msg": words, "connId": "a4d3ae55"})]

    def announcement(self, client: Client, now: int, begins: int) -> Sequence[str]:
        """Return the notice that precedes a service upgrade."""
        words = "The connection will soon be closed for a service upgrade. Please reconnect."
        return [json_text({"event": "notice", "msg": words, "code": "64008", "connId": "a4d3ae55"})]

    def receive(self, text: str, client: Client, history: History) -> Sequence[Reply]:
        """Handle subscriptions, each argument alone, and the text `ping`."""
        if text == "ping":
            client.message_times.pop()  # pings do not count
            return ["pong"]
        request = json_message(text)
        operation = request.get("op")
        if operation not in {"subscribe", "unsubscribe"}:
            return ['{"event":"error","code":"60012","msg":"Invalid request: expected op","connId":"a4d3ae55"}']
        number = {"id": request["id"]} if "id" in request else {}
        replies = [self._answer(operation, argument, number, client) for argument in request.get("args", [])]
        replies += self._books(request, client, history)
        names = [raw_symbol for raw_symbol in self.requested(text) if raw_symbol in client.quotes]
        tops = [history.books.newest(raw_symbol) for raw_symbol in names]
        return [*replies, *(frame for top in tops if top for frame in self.quote_frames(top))]

    def _answer(self, operation: str, argument: object, number: Mapping[str, Any], client: Client) -> str:
        fields = argument if isinstance(argument, dict) else {}
        raw_symbol, channel = str(fields.get("instId")), fields.get("channel")
        is_quotes = channel == QUOTES_CHANNEL and client.protocol == _PUBLIC
        is_book = channel == BOOK_CHANNEL and client.protocol == _PUBLIC
        if not self.listings.listed(raw_symbol) or not (is_quotes or is_book or channel == _CHANNELS[client.protocol]):
            words = (
                f"Wrong URL or channel:{channel},instId:{raw_symbol} doesn't exist. "
                "Please use the correct URL, channel and parameters referring to API document."
            )
            return json_text({"event": "error", "code": "60018", "msg": words, "connId": "a4d3ae55"})
        subscribed = client.quotes if is_quotes else client.books if is_book else client.subscribed
        if operation == "subscribe":
            subscribed.add(raw_symbol)
        else:
            subscribed.discard(raw_symbol)
        return json_text({**number, "event": operation, "arg": fields, "connId": "a4d3ae55"})

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield one frame per fill, or one per aggregate where the fills of an order have one price."""
        if protocol == "":
            for trade in trades:
                yield json_text({"arg": {"channel": CHANNEL, "instId": trade.pair.raw_symbol}, "data": [_row(trade)]})
            return
        for _, group in groupby(trades, key=lambda trade: (trade.price, trade.buy)):
            fills = list(group)
            row = _row(fills[-1]) | {"sz": number(sum(fill.quantity for fill in fills)), "count": str(len(fills))}
            argument = {"channel": _CHANNELS[protocol], "instId": row["instId"]}
            yield json_text({"arg": argument, "data": [row | {"seqId": fills[-1].id}]})

    def quote_frames(self, quote: SimQuote) -> Iterator[str]:
        """Yield the best bid and ask; `seqId` rises in steps of any size."""
        row = {
            "asks": _level(quote.ask), "bids": _level(quote.bid), "ts": str(quote.time // 1000), "seqId": quote.update,
        }  # fmt: skip
        yield json_text({"arg": {"channel": QUOTES_CHANNEL, "instId": quote.pair.raw_symbol}, "data": [row]})

    def book_frames(self, change: SimChange) -> Iterator[str]:
        """Yield the changed levels; the exchange deletes those that fall out of 400 a side itself."""
        yield _book_frame(change.book, "update", change.first - 1, sides(change.levels))

    def reset_book(self, book: OrderBook) -> Iterator[str]:
        """Yield the message whose number is below that of its predecessor, which it names."""
        previous, book.update = book.update, FIRST_AFTER_RESET
        yield _book_frame(book, "update", previous, ([], []))

    def _books(self, request: Mapping[str, Any], client: Client, history: History) -> list[str]:
        """Return the snapshots that subscriptions begin with."""
        arguments = request.get("args", []) if request.get("op") == "subscribe" else []
        names = [each.get("instId") for each in arguments if each.get("channel") == BOOK_CHANNEL]
        books = map(history.books.of, self.listings.pairs(name for name in names if name in client.books))
        return [_book_frame(book, "snapshot", -1, book.levels()) for book in books]

    def violation(self, client: Client, now: float) -> str:
        """Report 30 seconds without a message from the client."""
        return "30 seconds of silence" if now - client.last_message_at > _IDLE_LIMIT else ""

    def limited(self, wait: float) -> RestReply:
        """Return 429 with the code in the body."""
        return _error("50011", "Too Many Requests", 429)

    def passing_errors(self) -> Sequence[RestReply]:
        """Return errors of the servers."""
        return (
            _error("50001", "Service temporarily unavailable. Try again later", 503),
            _error(
                "50004", "API endpoint request timeout (does not mean that the request was successful or failed)", 400
            ),
            _error("50026", "System error. Try again later", 500),
            _error("50013", "Systems are busy. Please try again later.", 429),
        )

    def rest(self, path: str, query: Mapping[str, str], history: History, now: int) -> RestReply:
        """Serve single fills, newest first, where `after` pages backwards, the instruments and the time."""
        raw_symbol, after = query.get("instId", ""), query.get("after", "")
        if path == "/api/v5/public/time":
            return json_reply({"code": "0", "msg": "", "data": [{"ts": str(now // 1000)}]})
        if path == "/api/v5/public/instruments":
            return self._instruments(query)
        if not self.listings.listed(raw_symbol):
            return _error("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
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


def _level(level: tuple[int, int] | None) -> list[list[str]]:
    return [[number(level[0]), number(level[1]), "0", "1"]] if level else []


def _instrument(item: Instrument) -> dict[str, Any]:
    state = "live" if item.status is Status.TRADING else "suspend"
    return {
        "alias": "", "baseCcy": item.pair.base, "category": "1", "ctMult": "", "ctType": "", "ctVal": "",
        "ctValCcy": "", "expTime": "", "instFamily": "", "instId": item.pair.raw_symbol, "instType": "SPOT",
        "lever": "10", "listTime": str(item.listed_at // 1000), "lotSz": step(item.lot), "minSz": step(item.lot),
        "maxLmtSz": "9999999999", "maxMktSz": "1000000", "optType": "", "quoteCcy": item.pair.quote,
        "ruleType": "normal", "settleCcy": "", "state": state, "stk": "", "tickSz": step(item.tick), "uly": "",
    }  # fmt: skip


def _error(code: str, words: str, status: int = 200) -> RestReply:
    return json_reply({"code": code, "msg": words, "data": []}, status)


def _row(trade: SimTrade) -> dict[str, Any]:
    return {
        "instId": trade.pair.raw_symbol, "tradeId": str(trade.id), "px": number(trade.price),
        "sz": number(trade.quantity), "side": "buy" if trade.buy else "sell", "ts": str(trade.time // 1000),
        "source": "0",
    }  # fmt: skip


def _book_frame(book: OrderBook, action: str, previous: int, levels: Levels) -> str:
    """Return a frame of a book; `prevSeqId` of a snapshot is -1."""
    bids, asks = (
        [[number(price), number(size, 0), "0", "1" if size else "0"] for price, size in side] for side in levels
    )
    row = {
        "asks": asks, "bids": bids, "ts": str(book.time // 1000), "checksum": 0, "prevSeqId": previous,
        "seqId": book.update,
    }  # fmt: skip
    argument = {"channel": BOOK_CHANNEL, "instId": book.pair.raw_symbol}
    return json_text({"arg": argument, "action": action, "data": [row]})


VENUE = OkxVenue
