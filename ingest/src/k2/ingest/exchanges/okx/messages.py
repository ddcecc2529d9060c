"""OKX v5 spot: messages of the websocket and REST API. Only the fields that K2 reads."""

from typing import Final, Literal

import msgspec

from k2.schemas.records.trade import Side

CHANNEL: Final = "trades-all"
QUOTES_CHANNEL: Final = "bbo-tbt"
BOOK_CHANNEL: Final = "books"
SIDES = {"buy": Side.BUY, "sell": Side.SELL}


class TradeItem(msgspec.Struct):
    """One trade of the websocket or the REST API."""

    instId: str  # noqa: N815 - the exchange's spelling
    tradeId: str  # noqa: N815
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: str
    source: str = ""
    count: object = None  # how many fills an aggregate covers; fills have none


class Channel(msgspec.Struct):
    """The channel of a websocket frame."""

    channel: Literal["trades-all"]


class TradeFrame(msgspec.Struct):
    """A websocket frame with trades."""

    arg: Channel
    data: list[TradeItem]


class RawFrame(msgspec.Struct):
    """A websocket frame with trades that are not decoded yet."""

    arg: Channel
    data: list[msgspec.Raw]


class Top(msgspec.Struct):
    """The best bid and ask: at most one level each, of price, size and two further texts. Time in milliseconds."""

    bids: list[list[str]]
    asks: list[list[str]]
    ts: str
    seqId: int  # noqa: N815


class QuotesArgument(msgspec.Struct):
    """The channel and instrument of a websocket frame with quotes."""

    channel: Literal["bbo-tbt"]
    instId: str  # noqa: N815


class QuoteFrame(msgspec.Struct):
    """A websocket frame with quotes of one instrument that are not decoded yet."""

    arg: QuotesArgument
    data: list[msgspec.Raw]


class BookItem(msgspec.Struct):
    """Levels of an order book: price, size and two further texts. Time in milliseconds."""

    bids: list[list[str]]
    asks: list[list[str]]
    ts: str
    seqId: int  # noqa: N815
    prevSeqId: int  # noqa: N815


class BookArgument(msgspec.Struct):
    """The channel and instrument of a websocket frame with an order book."""

    channel: Literal["books"]
    instId: str  # noqa: N815


class BookFrame(msgspec.Struct):
    """A websocket frame with an order book, or changes of one, that are not decoded yet."""

    arg: BookArgument
    action: Literal["snapshot", "update"]
    data: list[msgspec.Raw]


class RestResponse(msgspec.Struct):
    """The envelope of a REST response without an error."""

    code: Literal["0"]
    data: list[msgspec.Raw]


FRAME = msgspec.json.Decoder(TradeFrame)
RAW_FRAME = msgspec.json.Decoder(RawFrame)
ITEM = msgspec.json.Decoder(TradeItem)
QUOTE_FRAME = msgspec.json.Decoder(QuoteFrame)
TOP = msgspec.json.Decoder(Top)
RESPONSE = msgspec.json.Decoder(RestResponse)
BOOK_FRAME = msgspec.json.Decoder(BookFrame)
BOOK = msgspec.json.Decoder(BookItem)
ROW = msgspec.json.Decoder(TradeItem)
