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
ROW = msgspec.json.Decoder(RestTrade)
AGGREGATES = msgspec.json.Decoder(list[Aggregate])
