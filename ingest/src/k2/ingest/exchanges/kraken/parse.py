"""Kraken spot, websocket v2 (docs.kraken.com/api/docs/websocket-v2/trade): frames in, trades out.

No sockets and no clock here; the session owns both. Prices are JSON numbers and are read as decimals, never as
floats. Each subscription begins with a snapshot of the last 50 trades, which closes short gaps by itself.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
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
    fraction,
    json_object,
    partition,
    positive_id,
)
from k2.schemas.exchanges.spec import EXCHANGES, Pair
from k2.schemas.records.trade import Side, Source
from k2.schemas.values import to_micros

_PAIRS_A_MESSAGE = 100
_ROWS = 1000
_REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_SILENT_KINDS = frozenset({"heartbeat", "status", "pong"})
SIDES = {"buy": Side.BUY, "sell": Side.SELL, "b": Side.BUY, "s": Side.SELL}
ORDER_TYPES = {"l": "limit", "m": "market"}


class _Fill(msgspec.Struct):
    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: int
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]  # a naive time would be read as local
    ord_type: str = ""


class _Frame(msgspec.Struct):
    channel: Literal["trade"]
    type: Literal["snapshot", "update"]
    data: list[_Fill]


# price, volume, seconds, side, order type, misc, trade id; the time is a number with up to seven decimals
Row = tuple[str, str, Decimal, Literal["b", "s"], str, str, int]


class _Answer(msgspec.Struct):
    error: list[str]
    result: dict[str, msgspec.Raw] = {}


_FIRST = frozenset((b"-", *(b"%d" % digit for digit in range(10))))
_FRAME = msgspec.json.Decoder(_Frame)
_ANSWER = msgspec.json.Decoder(_Answer)
_ROWS_DECODER = msgspec.json.Decoder(list[Row])


def _bare(raw: msgspec.Raw) -> str:
    """A number as it is written. Read as a Decimal, text would be taken for one too: "1_0" for ten."""
    text = bytes(raw)
    if text[:1] not in _FIRST:
        raise MalformedFrame(f"{text[:40]!r} is not a number")
    return text.decode()


class Kraken:
    """Kraken spot trades."""

    spec = EXCHANGES["kraken"]
    has_sequence = True
    url = "wss://ws.kraken.com"
    path = "/v2"
    rest = "https://api.kraken.com"
    limits = Limits(stale_after=5.0)  # a heartbeat comes every second; Kraken itself advises this deadline
    budget = RestBudget(rate=1.0, burst=3.0)

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._known = {pair.raw_symbol: pair for pair in pairs}

    def subscribe_messages(self) -> list[bytes]:
        """Subscribe messages, each with a snapshot."""
        return [
            msgspec.json.encode(
                {
                    "method": "subscribe",
                    "params": {
                        "channel": "trade",
                        "symbol": [pair.raw_symbol for pair in chunk],
                        "snapshot": True,
                    },
                    "req_id": number,
                }
            )
            for number, chunk in enumerate(chunks(self._pairs, _PAIRS_A_MESSAGE), start=1)
        ]

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """What one frame says; raises `MalformedFrame`."""
        try:
            message = _FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        source = Source.SNAPSHOT if message.type == "snapshot" else Source.LIVE
        return [self._fill(found, source, received) for found in message.data]

    def _fill(self, found: _Fill, source: Source, received: int) -> SequencedTrade | InvalidItem:
        pair = self._known.get(found.symbol)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{found.symbol[:40]!r} was not subscribed")
        number = positive_id(found.trade_id)
        vendor = (("pair", pair.raw_symbol), ("order_type", found.ord_type), ("source", source.value))
        return build_trade(
            "KRAKEN", pair, str(number), to_micros(found.timestamp), _bare(found.price), _bare(found.qty),
            SIDES[found.side], received, vendor, ids=(number, number),
        )  # fmt: skip

    @staticmethod
    def _other(frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        kind = message.get("channel", message.get("method"))
        if kind == "trade":
            raise MalformedFrame(str(cause))
        if isinstance(kind, str) and kind in _SILENT_KINDS:
            return ()
        if kind == "subscribe" or "success" in message:
            return [_subscription(message)]
        if isinstance(kind, str):
            return [Unknown(kind[:40])]
        raise MalformedFrame("neither a channel nor a method that Kraken documents")

    def newest_request(self, pair: Pair) -> Request:
        """The newest trade."""
        return Request("/0/public/Trades", {"pair": rest_name(pair), "count": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """The id of the newest trade."""
        return max((row[6] for row in rows_of(body)[0]), default=0)

    def history_request(self, gap: Gap) -> Request:
        """Trades since the one before the gap, 1,000 at a time; Kraken's cursor is a time in nanoseconds."""
        return since(gap.pair, gap.since * 1000 - 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Trades of the gap in one answer, and the next request while some are left."""
        rows, cursor = rows_of(body)
        observed, invalid = partition(_backfilled(rows, gap, received))
        newest = rows[-1][6] if rows else gap.last_id
        return Page(observed, invalid, after(request, gap.pair, cursor) if newest < gap.last_id else None)


def _backfilled(rows: list[Row], gap: Gap, received: int) -> Iterator[SequencedTrade | InvalidItem]:
    for price, volume, time, side, order_type, misc, number in rows:
        if gap.first_id <= number <= gap.last_id:
            vendor = (
                ("pair", gap.pair.raw_symbol), ("order_type", ORDER_TYPES.get(order_type, order_type)),
                ("misc", misc), ("source", Source.BACKFILL.value),
            )  # fmt: skip
            yield build_trade(
                "KRAKEN", gap.pair, str(number), fraction(f"{time:f}"), price, volume, SIDES[side], received, vendor,
                ids=(number, number),
            )  # fmt: skip


def since(pair: Pair, nanoseconds: int) -> Request:
    """Asks for trades after a time."""
    return Request("/0/public/Trades", {"pair": rest_name(pair), "since": str(nanoseconds), "count": str(_ROWS)})


def after(request: Request, pair: Pair, cursor: int) -> Request | None:
    """The page after one whose cursor is given, overlapping by the trades of its last moment; None at the end."""
    return since(pair, cursor - 1) if cursor - 1 > int(request.params["since"]) else None


def rest_name(pair: Pair) -> str:
    """A pair as Kraken's REST spells it: XBTUSD."""
    return _REST_NAMES.get(pair.base, pair.base) + _REST_NAMES.get(pair.quote, pair.quote)


def rows_of(body: bytes) -> tuple[list[Row], int]:
    """The rows of an answer and the cursor after them. The key of the rows is not the name that was asked for."""
    try:
        answer = _ANSWER.decode(body)
        if answer.error:
            raise _refusal(answer.error)
        rows = [_ROWS_DECODER.decode(raw) for key, raw in answer.result.items() if key != "last"]
        cursor = positive_id(msgspec.json.decode(answer.result.get("last", msgspec.Raw(b"0")), strict=False))
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error
    return (rows[0] if rows else []), cursor


def _refusal(errors: list[str]) -> RestRefused:
    text = "; ".join(errors)[:200]
    if "Rate limit" in text or "Too many requests" in text:
        return RestRefused(text, retry_after=5.0)
    if "Service" in text:  # EService:Unavailable, EService:Busy
        return RestRefused(text, retry_after=10.0)
    return RestRefused(text, unknown_symbol="Unknown asset pair" in text)


def _subscription(message: dict[str, Any]) -> Event:
    result = message.get("result")
    raw_symbol = str((result if isinstance(result, dict) else message).get("symbol", ""))
    named = (raw_symbol,) if raw_symbol else ()
    if message.get("success") is True:
        return Subscribed(named)
    return Refused(str(message.get("error", "refused"))[:200], named)
