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


class Snapshot(msgspec.Struct, tag_field="type", tag="snapshot"):
    """An order book: levels of price and size."""

    product_id: str
    bids: list[list[str]]
    asks: list[list[str]]
    time: Time | None = None


class Level2Update(msgspec.Struct, tag_field="type", tag="l2update"):
    """Changes of an order book: side, price and size each. A size of 0 deletes the level."""

    product_id: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]
    time: Time | None = None


class RestTrade(msgspec.Struct):
    """One trade of the REST API."""

    trade_id: int
    side: Literal["buy", "sell"]
    size: str
    price: str
    time: Time


MATCH = msgspec.json.Decoder(Match)
LEVEL2 = msgspec.json.Decoder(Snapshot | Level2Update)
ROW = msgspec.json.Decoder(RestTrade)
