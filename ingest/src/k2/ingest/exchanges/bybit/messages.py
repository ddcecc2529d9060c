"""Bybit v5 spot: messages of the websocket and REST API. Only the fields that K2 reads."""

from typing import Literal

import msgspec

from k2.schemas.records.trade import Side

SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}


class TradeItem(msgspec.Struct):
    """One trade of the websocket."""

    T: int
    s: str
    S: Literal["Buy", "Sell"]
    v: str
    p: str
    i: str
    BT: bool = False
    L: str = ""
    RPI: bool = False
    seq: int = 0


class TradeFrame(msgspec.Struct):
    """A websocket frame with trades."""

    topic: str
    data: list[TradeItem]


class RawFrame(msgspec.Struct):
    """A websocket frame with trades that are not decoded yet."""

    topic: str
    data: list[msgspec.Raw]


class Top(msgspec.Struct):
    """The best bid and ask: at most one level of price and size each. `u` numbers the states of the order book."""

    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: int


class TopFrame(msgspec.Struct):
    """A websocket frame with a quote. Times in milliseconds; `cts` is the matching engine's."""

    topic: str
    type: Literal["snapshot"]
    ts: int
    data: Top
    cts: int | None = None


class BookData(msgspec.Struct):
    """Levels of an order book, price and size each. `u` numbers its states, by 1 each; 1 after a restart."""

    s: str
    b: list[list[str]]
    a: list[list[str]]
    u: int


class BookFrame(msgspec.Struct):
    """A websocket frame with an order book or changes of one. Times in milliseconds; `cts` is the matching engine's."""

    topic: str
    type: Literal["snapshot", "delta"]
    ts: int
    data: BookData
    cts: int | None = None


class RestTrade(msgspec.Struct):
    """One trade of the REST API."""

    execId: str  # noqa: N815 - the exchange's spelling
    price: str
    size: str
    side: Literal["Buy", "Sell"]
    time: str
    symbol: str = ""


class RestTrades(msgspec.Struct):
    """The list of trades in a REST response."""

    rows: list[msgspec.Raw] = msgspec.field(name="list")


class RestResponse(msgspec.Struct):
    """The envelope of a REST response without an error."""

    retCode: Literal[0]  # noqa: N815
    result: RestTrades


FRAME = msgspec.json.Decoder(TradeFrame)
RAW_FRAME = msgspec.json.Decoder(RawFrame)
ITEM = msgspec.json.Decoder(TradeItem)
TOP_FRAME = msgspec.json.Decoder(TopFrame)
RESPONSE = msgspec.json.Decoder(RestResponse)
BOOK_FRAME = msgspec.json.Decoder(BookFrame)
ROW = msgspec.json.Decoder(RestTrade)
