"""OKX v5 spot: messages of the websocket and REST API. Only the fields that K2 reads."""

from typing import Literal

import msgspec

from k2.schemas.records.trade import Side

SIDES = {"buy": Side.BUY, "sell": Side.SELL}


class TradeItem(msgspec.Struct):
    """One trade of the websocket or the REST API."""

    instId: str  # noqa: N815 - the exchange's spelling
    tradeId: str  # noqa: N815
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: str
    count: str = "1"  # absent before 2023
    source: str = ""
    seqId: int = 0  # noqa: N815


class Channel(msgspec.Struct):
    """The channel of a websocket frame."""

    channel: Literal["trades"]


class TradeFrame(msgspec.Struct):
    """A websocket frame with trades."""

    arg: Channel
    data: list[TradeItem]


class RestResponse(msgspec.Struct):
    """The envelope of a REST response without an error."""

    code: Literal["0"]
    data: list[msgspec.Raw]


FRAME = msgspec.json.Decoder(TradeFrame)
RESPONSE = msgspec.json.Decoder(RestResponse)
ROW = msgspec.json.Decoder(TradeItem)
