"""Coinbase Exchange: messages of the websocket and REST API. Only the fields that K2 reads."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from k2.schemas.records.trade import Side

TAKER = {"buy": Side.SELL, "sell": Side.BUY}  # by the maker's side
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Match(msgspec.Struct):
    """One trade of the websocket."""

    type: Literal["match", "last_match"]
    trade_id: int
    side: Literal["buy", "sell"]
    size: str
    price: str
    product_id: str
    time: Time
    sequence: int = 0
    maker_order_id: str = ""
    taker_order_id: str = ""


class RestTrade(msgspec.Struct):
    """One trade of the REST API."""

    trade_id: int
    side: Literal["buy", "sell"]
    size: str
    price: str
    time: Time


MATCH = msgspec.json.Decoder(Match)
ROW = msgspec.json.Decoder(RestTrade)
