"""Binance spot (developers.binance.com, WebSocket Streams and Market Data endpoints): frames in, trades out.

No sockets and no clock here; the session owns both. Ids are consecutive per symbol, and any range of them can be
asked for again without a key.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    INEXACT,
    UNSUBSCRIBED,
    Closing,
    Event,
    Gap,
    InvalidItem,
    Limits,
    MalformedFrame,
    Page,
    Refused,
    Request,
    RestBudget,
    RestRefused,
    SequencedTrade,
    Subscribed,
    Unknown,
    build_trade,
    chunks,
    json_object,
    millis,
    partition,
    positive_id,
)
from k2.schemas.exchanges.spec import EXCHANGES, Pair
from k2.schemas.records.trade import Side, Source, Trade, VendorData
from k2.schemas.values import InexactValue, scaled

_PAIRS_A_MESSAGE = 200
_ROWS = 1000
_INVALID_SYMBOL = -1121


class _Trade(msgspec.Struct, gc=False):
    e: Literal["trade"]
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


class _Frame(msgspec.Struct, gc=False):
    data: _Trade


class _Row(msgspec.Struct):
    id: int
    price: str
    qty: str
    time: int
    isBuyerMaker: bool  # noqa: N815 - the exchange's spelling


class _Aggregate(msgspec.Struct):
    l: int  # noqa: E741 - the exchange's spelling


_FRAME = msgspec.json.Decoder(_Frame)
_ROWS_DECODER = msgspec.json.Decoder(list[_Row])
_AGGREGATES = msgspec.json.Decoder(list[_Aggregate])


class Binance:
    """Binance spot trades."""

    spec = EXCHANGES["binance"]
    has_sequence = True
    url = "wss://stream.binance.com:9443"
    path = "/stream"
    rest = "https://api.binance.com"
    # Binance pings every 20 s; it closes a client that sends more than 5 messages a second.
    limits = Limits(stale_after=30.0, subscribe_interval=0.5)
    budget = RestBudget(rate=80.0, burst=2000.0)  # of 6,000 weight a minute

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        # (sold, bought) vendor data per symbol, made once: the flag says whether the buyer was the maker.
        self._known = {
            pair.raw_symbol: (
                pair,
                _vendor(pair, sold=True, source=Source.LIVE),
                _vendor(pair, sold=False, source=Source.LIVE),
            )
            for pair in pairs
        }

    def subscribe_messages(self) -> list[bytes]:
        """SUBSCRIBE messages; the id of each says which pairs it was for."""
        return [
            msgspec.json.encode(
                {
                    "method": "SUBSCRIBE",
                    "params": [f"{pair.raw_symbol.lower()}@trade" for pair in chunk],
                    "id": number,
                }
            )
            for number, chunk in enumerate(chunks(self._pairs, _PAIRS_A_MESSAGE), start=1)
        ]

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """What one frame says; raises `MalformedFrame`."""
        try:
            data = _FRAME.decode(frame).data
        except DECODE_ERRORS:
            return self._other(frame)
        known = self._known.get(data.s)
        if known is None:
            return [InvalidItem(UNSUBSCRIBED, f"{data.s[:40]!r} was not subscribed")]
        pair, sold, bought = known
        number = data.t
        if not 0 < number < 2**63:
            raise MalformedFrame(f"trade id {str(number)[:40]} is not a positive number")
        try:
            price, quantity = scaled(data.p), scaled(data.q)
        except InexactValue as error:
            return [InvalidItem(INEXACT, str(error), pair.symbol, number)]
        trade = Trade(
            str(number), pair.symbol, "BINANCE", pair.base, pair.quote, millis(data.T), price, quantity,
            Side.SELL if data.m else Side.BUY, received, sold if data.m else bought,
        )  # fmt: skip
        return [SequencedTrade(trade, number, number)]

    def _other(self, frame: bytes) -> Sequence[Event]:
        """Everything that is not a trade: acknowledgements, errors, the shutdown notice, new kinds of event."""
        message = json_object(frame)
        data = message.get("data")
        event = data if isinstance(data, dict) else message
        kind = event.get("e")
        if kind == "serverShutdown":
            return [Closing("serverShutdown")]
        if isinstance(kind, str) and kind != "trade":
            return [Unknown(kind[:40])]
        stream = message.get("stream")
        if kind is None and isinstance(stream, str) and not stream.endswith("@trade"):
            return [Unknown(stream.partition("@")[2][:40])]  # bookTicker names itself nowhere else
        if "result" in message:
            return [self._acknowledged(message.get("id"))]
        error = message.get("error", message)
        if isinstance(error, dict) and "code" in error:
            return [Refused(f"{error.get('code')}: {str(error.get('msg'))[:200]}")]
        raise MalformedFrame("neither a trade nor a message that Binance documents")

    def _acknowledged(self, number: object) -> Subscribed:
        if not isinstance(number, int) or isinstance(number, bool):
            return Subscribed(())
        start = (number - 1) * _PAIRS_A_MESSAGE
        return Subscribed(tuple(pair.raw_symbol for pair in self._pairs[max(start, 0) : start + _PAIRS_A_MESSAGE]))

    def newest_request(self, pair: Pair) -> Request:
        """The newest aggregate names the last trade id, for a sixth of the weight of the trade itself."""
        return Request("/api/v3/aggTrades", {"symbol": pair.raw_symbol, "limit": "1"}, weight=4)

    def parse_newest_id(self, body: bytes) -> int:
        """The last trade id of the newest aggregate."""
        rows = _decode(_AGGREGATES, body)
        return rows[-1].l if rows else 0

    def history_request(self, gap: Gap) -> Request:
        """Trades by id, 1,000 at a time, from the gap's first."""
        return self._from(gap, gap.first_id)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Trades of the gap in one answer, and the next request while some are left."""
        rows = _decode(_ROWS_DECODER, body)
        items = (_backfilled(gap.pair, row, received) for row in rows if gap.first_id <= row.id <= gap.last_id)
        observed, invalid = partition(items)
        newest = rows[-1].id if rows else gap.last_id
        next_request = self._from(gap, newest + 1) if newest < gap.last_id else None
        return Page(observed, invalid, next_request)

    @staticmethod
    def _from(gap: Gap, first: int) -> Request:
        limit = min(_ROWS, gap.last_id - first + 1)
        params = {"symbol": gap.pair.raw_symbol, "fromId": str(first), "limit": str(limit)}
        return Request("/api/v3/historicalTrades", params, weight=25)


def _backfilled(pair: Pair, row: _Row, received: int) -> SequencedTrade | InvalidItem:
    number = positive_id(row.id)
    side = Side.SELL if row.isBuyerMaker else Side.BUY
    vendor = _vendor(pair, sold=row.isBuyerMaker, source=Source.BACKFILL)
    return build_trade(
        "BINANCE", pair, str(number), millis(row.time), row.price, row.qty, side, received, vendor,
        ids=(number, number),
    )  # fmt: skip


def _vendor(pair: Pair, *, sold: bool, source: Source) -> VendorData:
    return (("pair", pair.raw_symbol), ("buyer_maker", "true" if sold else "false"), ("source", source.value))


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except DECODE_ERRORS as error:
        raise _refusal(body) or MalformedFrame(str(error)) from error


def _refusal(body: bytes) -> RestRefused | None:
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except DECODE_ERRORS:
        return None
    if "code" not in answer:
        return None
    return RestRefused(
        f"{answer['code']}: {str(answer.get('msg'))[:200]}", unknown_symbol=answer["code"] == _INVALID_SYMBOL
    )
