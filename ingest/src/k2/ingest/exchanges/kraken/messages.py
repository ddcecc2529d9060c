"""Kraken spot: messages of the websocket and REST API. Only the fields that K2 reads."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

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


FRAME = msgspec.json.Decoder(TradeFrame)
RAW_FRAME = msgspec.json.Decoder(RawFrame)
ITEM = msgspec.json.Decoder(Fill)
RESPONSE = msgspec.json.Decoder(RestResponse)
ROW = msgspec.json.Decoder(RestRow)
