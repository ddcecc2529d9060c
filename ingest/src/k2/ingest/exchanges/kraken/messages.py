"""Kraken spot: messages of the websocket and REST API. Only the fields that K2 reads."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from k2.ingest.exchanges.base import MalformedFrame
from k2.schemas.records.trade import Side

SIDES = {"buy": Side.BUY, "sell": Side.SELL, "b": Side.BUY, "s": Side.SELL}
ORDER_TYPES = {"l": "limit", "m": "market"}


class Fill(msgspec.Struct):
    """One trade of the websocket."""

    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: int
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]  # a naive time would be read as local
    ord_type: str = ""


class TradeFrame(msgspec.Struct):
    """A websocket frame with trades."""

    channel: Literal["trade"]
    type: Literal["snapshot", "update"]
    data: list[Fill]


class RawFrame(msgspec.Struct):
    """A websocket frame with trades that are not decoded yet."""

    channel: Literal["trade"]
    data: list[msgspec.Raw]
    type: object = ""


class Ticker(msgspec.Struct):
    """The best bid and ask of the websocket, among other figures of a market."""

    symbol: str
    bid: msgspec.Raw
    bid_qty: msgspec.Raw
    ask: msgspec.Raw
    ask_qty: msgspec.Raw
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class TickerFrame(msgspec.Struct):
    """A websocket frame with tickers that are not decoded yet."""

    channel: Literal["ticker"]
    data: list[msgspec.Raw]


class Level(msgspec.Struct):
    """A level of an order book; JSON numbers, which are kept as they are written."""

    price: msgspec.Raw
    qty: msgspec.Raw


class BookItem(msgspec.Struct):
    """An order book, or changes of one, and the checksum of its best levels."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: int
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class BookFrame(msgspec.Struct):
    """A websocket frame with order books that are not decoded yet."""

    channel: Literal["book"]
    type: Literal["snapshot", "update"]
    data: list[msgspec.Raw]


class RestRow(msgspec.Struct, array_like=True):
    """One trade of the REST API: an array, to which Kraken may append columns."""

    price: str
    volume: str
    time: Decimal  # seconds, a number with up to seven decimals
    side: Literal["b", "s"]
    order_type: str
    misc: str
    number: int


class RestResponse(msgspec.Struct):
    """The envelope of a REST response. A warning may accompany its result."""

    error: list[str]
    result: dict[str, msgspec.Raw] = {}


_FIRST = frozenset((b"-", *(b"%d" % digit for digit in range(10))))


def bare(raw: msgspec.Raw) -> str:
    """Return a bare JSON number as text. msgspec would accept a string for a Decimal, even "1_0".

    Raises `MalformedFrame` for any other JSON.
    """
    text = bytes(raw)
    if text[:1] not in _FIRST:
        raise MalformedFrame(f"{text[:60].decode(errors='replace')} is not a number")
    return text.decode()


FRAME = msgspec.json.Decoder(TradeFrame)
RAW_FRAME = msgspec.json.Decoder(RawFrame)
ITEM = msgspec.json.Decoder(Fill)
TICKER_FRAME = msgspec.json.Decoder(TickerFrame)
TICKER = msgspec.json.Decoder(Ticker)
BOOK_FRAME = msgspec.json.Decoder(BookFrame)
BOOK = msgspec.json.Decoder(BookItem)
RESPONSE = msgspec.json.Decoder(RestResponse)
ROW = msgspec.json.Decoder(RestRow)
