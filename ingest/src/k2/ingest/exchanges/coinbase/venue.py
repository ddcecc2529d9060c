"""Simulated Coinbase Exchange: matches, heartbeats, and over REST trades by id, products and time."""

from collections.abc import Iterator, Mapping, Sequence
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
    iso,
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
from k2.ingest.simulator.order_book import OrderBook, SimChange, sides
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.values import from_micros

_SUBSCRIBE_WITHIN = 5.0
_LEVEL2 = "level2_batch"
_PLACES = 8  # of prices and quantities over REST, with trailing zeros


class CoinbaseVenue(Venue):
    """Simulated Coinbase Exchange."""

    spec = EXCHANGES["coinbase"]
    default_symbols = ("BTC-USD", "ETH-USD")
    new_symbol = "SOL-USD"
    paths = ("/",)
    rest_rate, rest_burst = 8.0, 20.0
    end = Cut(1001, "going away")

    @staticmethod
    def limits() -> Rules:
        """Return Coinbase's limits for an address."""
        return Rules(messages=100, connects=8, connects_period=1.0)

    def requested(self, text: str) -> Sequence[str]:
        """Return the products of a subscribe message."""
        request = json_message(text)
        return texts(request.get("product_ids", [])) if request.get("type") == "subscribe" else ()

    def refuse(self, limit: Limit, text: str) -> Sequence[Reply]:
        """Send an error; a client that sends too much is disconnected after it."""
        match limit:
            case Limit.MESSAGES:
                return [_error("ErrSlowRead", "too many messages"), Cut(PROTOCOL_ERROR, "ErrSlowRead")]
            case Limit.BYTES:
                return [_error("Message too big", ""), Cut(1009, "Message too big")]
            case Limit.BUSY:
                return [_error("Failed to subscribe", "Internal server error, please try again")]
        return [_error("Failed to subscribe", "maximum number of subscriptions exceeded")]

    def receive(self, text: str, client: Client, history: History) -> Sequence[Reply]:
        """Handle a subscribe message: reply with the subscriptions, then the last match or the book of each product.

        One invalid product, and the whole call is ignored.
        """
        request = json_message(text)
        products, channels = texts(request.get("product_ids", [])), texts(request.get("channels", []))
        match request.get("type"):
            case "subscribe":
                return self._subscribe(products, channels, client, history)
            case "unsubscribe":
                if "matches" in channels:
                    client.subscribed.difference_update(products)
                if "heartbeat" in channels:
                    client.heartbeats.difference_update(products)
                if _LEVEL2 in channels:
                    client.books.difference_update(products)
                return [_subscriptions(client)]
        return [_error("Malformed JSON", "expected a subscribe message")]

    def _subscribe(
        self, products: Sequence[str], channels: Sequence[str], client: Client, history: History
    ) -> Sequence[Reply]:
        for product in products:
            if not self.listings.listed(product):
                return [_error("Failed to subscribe", f"{product} is not a valid product")]
        frames: list[str] = []
        if "matches" in channels:
            client.subscribed.update(products)
            newest = [trade for product in products for trade in history.newest(product, 1)]
            frames += [_match(trade, "last_match") for trade in newest]
        if "heartbeat" in channels:
            client.heartbeats.update(products)
        if _LEVEL2 in channels:
            client.books.update(products)
            frames += [_snapshot(book) for book in map(history.books.of, self.listings.pairs(products))]
        return [_subscriptions(client), *frames]

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield one frame per trade."""
        for trade in trades:
            yield _match(trade, "match")

    def reset_book(self, book: OrderBook) -> Iterator[str]:
        """Yield another snapshot: there are no numbers."""
        yield _snapshot(book)

    def book_frames(self, change: SimChange) -> Iterator[str]:
        """Yield the changed levels."""
        bids, asks = sides(change.levels)
        changes = [
            [side, number(price), number(size, _PLACES)]
            for side, levels in (("buy", bids), ("sell", asks))
            for price, size in levels
        ]
        product, time = change.book.pair.raw_symbol, _time(change.book)
        yield json_text({"type": "l2update", "product_id": product, "time": time, "changes": changes})

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """Return one heartbeat per product, with its last trade id."""
        frames = []
        for product in sorted(client.heartbeats):
            last = history.newest(product, 1)
            beat = {"type": "heartbeat", "sequence": 0, "last_trade_id": last[0].id if last else 0}
            frames.append(json_text({**beat, "product_id": product, "time": from_micros(now).isoformat()}))
        return frames

    def violation(self, client: Client, now: float) -> str:
        """Report a client that did not subscribe within five seconds."""
        late = not (client.subscribed or client.books) and now - client.opened_at > _SUBSCRIBE_WITHIN
        return "no subscription within 5 seconds" if late else ""

    def limited(self, wait: float) -> RestReply:
        """Return 429."""
        return json_reply({"message": "Public rate limit exceeded"}, 429)

    def passing_errors(self) -> Sequence[RestReply]:
        """Return errors of the servers; NotFound also for products that exist."""
        return (
            json_reply({"message": "NotFound"}, 404),
            json_reply({"message": "Internal server error"}, 500),
            json_reply({"message": "Service Unavailable"}, 503),
            RestReply(b"error code: 1015", 403),
        )

    def rest(self, path: str, query: Mapping[str, str], history: History, now: int) -> RestReply:
        """Serve the trades of a product, newest first, where `after` pages backwards, the products and the time."""
        if path == "/time":
            iso_time = from_micros(now).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return json_reply({"iso": iso_time, "epoch": now / 1e6})
        if path == "/products":
            return json_reply([_product(item) for item in self.listings])
        parts = path.strip("/").split("/")
        if len(parts) != 3 or parts[0] != "products" or parts[2] != "trades" or self.listings.get(parts[1]) is None:
            return json_reply({"message": "NotFound"}, 404)
        limit, after = count(query, "limit", 1000), query.get("after", "")
        product = parts[1]
        trades = history.before_id(product, int(after), limit) if after.isdigit() else history.newest(product, limit)
        return json_reply([_row(trade) for trade in reversed(trades)])


def _product(item: Instrument) -> dict[str, Any]:
    delisted, halted = item.status is Status.DELISTED, item.status is not Status.TRADING
    return {
        "id": item.pair.raw_symbol, "base_currency": item.pair.base, "quote_currency": item.pair.quote,
        "quote_increment": step(item.tick), "base_increment": step(item.lot),
        "display_name": f"{item.pair.base}/{item.pair.quote}", "min_market_funds": "1", "margin_enabled": False,
        "post_only": False, "limit_only": False, "cancel_only": halted, "status": "delisted" if delisted else "online",
        "status_message": "", "trading_disabled": halted, "fx_stablecoin": False,
        "max_slippage_percentage": "0.02000000", "auction_mode": False, "high_bid_limit_percentage": "",
    }  # fmt: skip


def _error(message: str, reason: str) -> str:
    return json_text({"type": "error", "message": message, **({"reason": reason} if reason else {})})


def _subscriptions(client: Client) -> str:
    by_channel = {"matches": client.subscribed, "heartbeat": client.heartbeats, "level2_50": client.books}
    channels = [{"name": name, "product_ids": sorted(products)} for name, products in by_channel.items() if products]
    return json_text({"type": "subscriptions", "channels": channels})


def _maker(trade: SimTrade) -> str:
    return "sell" if trade.buy else "buy"


def _match(trade: SimTrade, kind: str) -> str:
    return (
        f'{{"type":"{kind}","trade_id":{trade.id},"maker_order_id":"{trade.id:08x}-0000-4000-8000-00000000000a",'
        f'"taker_order_id":"{trade.id:08x}-0000-4000-8000-00000000000b","side":"{_maker(trade)}",'
        f'"size":"{number(trade.quantity)}","price":"{number(trade.price)}","product_id":"{trade.pair.raw_symbol}",'
        f'"sequence":{trade.id * 3},"time":"{iso(trade)}"}}'
    )


def _row(trade: SimTrade) -> dict[str, Any]:
    return {
        "time": iso(trade), "trade_id": trade.id, "price": number(trade.price, _PLACES),
        "size": number(trade.quantity, _PLACES), "side": _maker(trade),
    }  # fmt: skip


def _snapshot(book: OrderBook) -> str:
    bids, asks = ([[number(price), number(size, _PLACES)] for price, size in side] for side in book.levels())
    product = book.pair.raw_symbol
    return json_text({"type": "snapshot", "product_id": product, "bids": bids, "asks": asks, "time": _time(book)})


def _time(book: OrderBook) -> str:
    return from_micros(book.time).isoformat(timespec="microseconds").replace("+00:00", "Z")


VENUE = CoinbaseVenue
