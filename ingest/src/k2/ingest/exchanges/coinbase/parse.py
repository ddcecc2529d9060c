"""Coinbase Exchange (docs.cdp.coinbase.com/exchange, `matches` and `heartbeat`): frames in, trades out.

No sockets and no clock here; the session owns both. `side` is the maker's and is turned round. A heartbeat a
second names each product's last trade id, so that a quiet product is proved complete too.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    Gap,
    Heartbeat,
    InvalidItem,
    Limits,
    MalformedFrame,
    Page,
    Refused,
    Request,
    RestBudget,
    SequencedTrade,
    Subscribed,
    Unknown,
    build_trade,
    chunks,
    json_object,
    partition,
    positive_id,
)
from k2.schemas.exchanges.spec import EXCHANGES, Pair
from k2.schemas.records.trade import Side, Source
from k2.schemas.values import to_micros

_PAIRS_A_MESSAGE = 100
_ROWS = 1000
_TAKER = {"buy": Side.SELL, "sell": Side.BUY}  # by the maker's side
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class _Match(msgspec.Struct):
    type: Literal["match", "last_match"]
    trade_id: int
    side: Literal["buy", "sell"]
    size: str
    price: str
    product_id: str
    time: _Time
    sequence: int = 0
    maker_order_id: str = ""
    taker_order_id: str = ""


class _Row(msgspec.Struct):
    trade_id: int
    side: Literal["buy", "sell"]
    size: str
    price: str
    time: _Time


_MATCH = msgspec.json.Decoder(_Match)
_ROWS_DECODER = msgspec.json.Decoder(list[_Row])


class Coinbase:
    """Coinbase Exchange trades."""

    spec = EXCHANGES["coinbase"]
    has_sequence = True
    url = "wss://ws-feed.exchange.coinbase.com"
    path = ""
    rest = "https://api.exchange.coinbase.com"
    limits = Limits(stale_after=5.0)  # a heartbeat comes every second
    budget = RestBudget(rate=6.0, burst=15.0)  # of 8 a second, 20 at once

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._known = {pair.raw_symbol: pair for pair in pairs}

    def subscribe_messages(self) -> list[bytes]:
        """Subscribe messages for matches and heartbeats; the first must come within 5 seconds."""
        return [
            msgspec.json.encode(
                {
                    "type": "subscribe",
                    "product_ids": [pair.raw_symbol for pair in chunk],
                    "channels": ["matches", "heartbeat"],
                }
            )
            for chunk in chunks(self._pairs, _PAIRS_A_MESSAGE)
        ]

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """What one frame says; raises `MalformedFrame`."""
        try:
            found = _MATCH.decode(frame)
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        pair = self._known.get(found.product_id)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{found.product_id[:40]!r} was not subscribed")]
        number = positive_id(found.trade_id)
        source = Source.SNAPSHOT if found.type == "last_match" else Source.LIVE
        vendor = (
            ("pair", pair.raw_symbol), ("maker_side", found.side), ("sequence", str(found.sequence)),
            ("maker_order_id", found.maker_order_id), ("taker_order_id", found.taker_order_id),
            ("source", source.value),
        )  # fmt: skip
        return [build_trade(
            "COINBASE", pair, str(number), to_micros(found.time), found.price, found.size, _TAKER[found.side],
            received, vendor, ids=(number, number),
        )]  # fmt: skip

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        match message.get("type"):
            case "heartbeat":
                return self._heartbeat(message)
            case "subscriptions":
                return [self._subscribed(message)]
            case "error":
                return [self._refused(message)]
            case "match" | "last_match":
                raise MalformedFrame(str(cause))
            case str(kind):
                return [Unknown(kind[:40])]
        raise MalformedFrame("no type that Coinbase documents")

    def _heartbeat(self, message: dict[str, Any]) -> Sequence[Event]:
        pair = self._known.get(str(message.get("product_id")))
        last = message.get("last_trade_id")
        if pair is None or not last:  # a product that never traded says 0
            return ()
        return [Heartbeat(pair.symbol, positive_id(last))]

    def _subscribed(self, message: dict[str, Any]) -> Subscribed:
        channels = message.get("channels")
        for channel in channels if isinstance(channels, list) else ():
            if isinstance(channel, dict) and channel.get("name") == "matches":
                products = channel.get("product_ids", [])
                return Subscribed(tuple(name for name in products if isinstance(name, str)))
        return Subscribed(())

    def _refused(self, message: dict[str, Any]) -> Refused:
        text = f"{message.get('message')}: {message.get('reason', '')}"[:200]
        return Refused(text, tuple(raw_symbol for raw_symbol in self._known if raw_symbol in text))

    def newest_request(self, pair: Pair) -> Request:
        """The newest trade."""
        return Request(f"/products/{pair.raw_symbol}/trades", {"limit": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """The id of the newest trade."""
        return max((row.trade_id for row in _rows(body)), default=0)

    def history_request(self, gap: Gap) -> Request:
        """Trades older than the one after the gap, newest first."""
        return self._older_than(gap, gap.last_id + 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Trades of the gap in one answer, and the next request while some are left."""
        rows = _rows(body)
        items = (_backfilled(gap.pair, row, received) for row in rows if gap.first_id <= row.trade_id <= gap.last_id)
        observed, invalid = partition(items)
        oldest = min((row.trade_id for row in rows), default=0)
        next_request = self._older_than(gap, oldest) if oldest > gap.first_id else None
        return Page(observed, invalid, next_request)

    @staticmethod
    def _older_than(gap: Gap, number: int) -> Request:
        limit = min(_ROWS, number - gap.first_id)
        return Request(f"/products/{gap.pair.raw_symbol}/trades", {"after": str(number), "limit": str(limit)})


def _rows(body: bytes) -> list[_Row]:
    try:
        return _ROWS_DECODER.decode(body)
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error


def _backfilled(pair: Pair, row: _Row, received: int) -> SequencedTrade | InvalidItem:
    number = positive_id(row.trade_id)
    vendor = (("pair", pair.raw_symbol), ("maker_side", row.side), ("source", Source.BACKFILL.value))
    return build_trade(
        "COINBASE", pair, str(number), to_micros(row.time), row.price, row.size, _TAKER[row.side], received, vendor,
        ids=(number, number),
    )  # fmt: skip
