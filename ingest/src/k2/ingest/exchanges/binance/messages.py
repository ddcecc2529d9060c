"""Binance spot: messages of the websocket and REST API. Only the fields that K2 reads."""

from typing import Literal

import msgspec


class TradeItem(msgspec.Struct, gc=False):
    """One trade of the websocket."""

    e: Literal["trade"]
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


class TradeFrame(msgspec.Struct, gc=False):
    """A websocket frame with trades."""

    data: TradeItem


class BookTicker(msgspec.Struct, gc=False):
    """The best bid and ask of the websocket. `u` numbers the states of the order book."""

    u: int
    s: str
    b: str
    B: str
    a: str
    A: str


class QuoteFrame(msgspec.Struct, gc=False):
    """A websocket frame with a quote; the name of its stream is the only one that says so."""

    data: BookTicker


class DepthUpdate(msgspec.Struct, gc=False):
    """The levels that changed in the order book: `U` and `u` are the ids of the first and last change."""

    e: Literal["depthUpdate"]
    E: int
    s: str
    U: int
    u: int
    b: list[list[str]]
    a: list[list[str]]


class DepthFrame(msgspec.Struct, gc=False):
    """A websocket frame with changes of an order book."""

    data: DepthUpdate


class Depth(msgspec.Struct):
    """The order book of the REST API."""

    lastUpdateId: int  # noqa: N815 - the exchange's spelling
    bids: list[list[str]]
    asks: list[list[str]]


class RestTrade(msgspec.Struct):
    """One trade of the REST API."""

    id: int
    price: str
    qty: str
    time: int
    isBuyerMaker: bool  # noqa: N815 - the exchange's spelling


class Aggregate(msgspec.Struct):
    """One aggregate of the REST API; `l` is its last trade id."""

    l: int  # noqa: E741 - the exchange's spelling


FRAME = msgspec.json.Decoder(TradeFrame)
QUOTE_FRAME = msgspec.json.Decoder(QuoteFrame)
DEPTH_FRAME = msgspec.json.Decoder(DepthFrame)
DEPTH = msgspec.json.Decoder(Depth)
ROW = msgspec.json.Decoder(RestTrade)
AGGREGATES = msgspec.json.Decoder(list[Aggregate])
