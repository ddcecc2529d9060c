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
ROW = msgspec.json.Decoder(RestTrade)
AGGREGATES = msgspec.json.Decoder(list[Aggregate])
