"""Kraken spot, websocket v1 (arrays without trade ids): frames to trades.

v1 has no trade ids, so an id is derived from the trade's content, and a reconnect leaves a window that is closed by
comparing with REST.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    NO_ID,
    UNSUBSCRIBED,
    Closing,
    Event,
    Gap,
    InvalidItem,
    MalformedFrame,
    Newest,
    NewestTradeSnapshot,
    Notices,
    Page,
    Refused,
    Request,
    Subscribed,
    Unknown,
    Unsubscribed,
    build_trade,
    fraction,
    json_object,
    named,
    partition,
    request_number,
)
from k2.ingest.exchanges.items import Built, decode_items, numbered
from k2.ingest.exchanges.kraken.control import refusal
from k2.ingest.exchanges.kraken.messages import ORDER_TYPES, SIDES
from k2.ingest.exchanges.kraken.parse import Kraken
from k2.ingest.exchanges.kraken.rest import after, later_than, own_assets, rest_name, rows_of, since
from k2.ingest.exchanges.rows import ascending
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source, derived_trade_id
from k2.schemas.values import InexactValue, format_decimal, scaled

_ANSWERS = frozenset({"subscriptionStatus", "error"})
_SILENT_EVENTS = frozenset({"heartbeat", "pong"})


class Fill(msgspec.Struct, array_like=True):
    """One trade; further columns are ignored."""

    price: str
    volume: str
    time: str  # seconds with six decimals
    side: Literal["b", "s"]
    order_type: str
    misc: str


class TradeFrame(msgspec.Struct, array_like=True):
    """A frame with trades."""

    channel_id: int
    fills: list[Fill]
    channel: Literal["trade"]
    pair: str


class RawFrame(msgspec.Struct, array_like=True):
    """A frame with trades that are not decoded yet."""

    channel_id: object
    fills: list[msgspec.Raw]
    channel: Literal["trade"]
    pair: str


_FRAME = msgspec.json.Decoder(TradeFrame)
_RAW_FRAME = msgspec.json.Decoder(RawFrame)
_FILL = msgspec.json.Decoder(Fill)


class KrakenV1(NewestTradeSnapshot):
    """Kraken spot trades over the older protocol; selected by the endpoint `wss://ws.kraken.com#v1`."""

    spec = EXCHANGES["kraken"]
    has_sequence = False
    record_ids = r"KRAKEN-[0-9]+-[0-9a-f]{16}"
    url = Kraken.url
    path = ""
    notices = Notices()
    rest_url = Kraken.rest_url
    limits = Kraken.limits
    rest_budget = Kraken.rest_budget

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._system = ""
        self.set_pairs(pairs)

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        self._by_name = {_v1_name(pair): pair for pair in pairs}

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe request."""
        return _request("subscribe", pairs, number)

    def unsubscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return an unsubscribe request."""
        return _request("unsubscribe", pairs, number)

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            message = _FRAME.decode(frame)
            if (pair := self._by_name.get(message.pair)) is None:
                return [_unsubscribed(message.pair)]
            return numbered(list(map(TradeBuilder(pair, Source.LIVE, received), message.fills)))
        except (*DECODE_ERRORS, MalformedFrame):
            return self._one_by_one(frame, received)

    def _one_by_one(self, frame: bytes, received: int) -> Sequence[Event]:
        try:
            message = _RAW_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        if (pair := self._by_name.get(message.pair)) is None:
            return [_unsubscribed(message.pair)]
        items = decode_items(message.fills, _FILL, TradeBuilder(pair, Source.LIVE, received), self._by_name)
        return [replace(item, symbol=pair.symbol) if isinstance(item, InvalidItem) else item for item in items]

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        if frame.lstrip().startswith(b"["):
            raise MalformedFrame(str(cause))
        message = json_object(frame)
        kind = message.get("event")
        if isinstance(kind, str) and kind in _SILENT_EVENTS:
            return ()
        if kind == "systemStatus":
            return self._status(str(message.get("status", "")))
        if isinstance(kind, str) and kind in _ANSWERS:
            return [self._answer(message)]
        if isinstance(kind, str):
            return [Unknown(kind[:40])]
        raise MalformedFrame("an object without the event that Kraken documents")

    def _answer(self, message: dict[str, Any]) -> Event:
        pair = self._by_name.get(str(message.get("pair", "")))
        symbols: tuple[str, ...] = (pair.raw_symbol,) if pair else ()
        number = request_number(message.get("reqid"))
        match message.get("status"):
            case "subscribed":
                return Subscribed(symbols, number)
            case "unsubscribed":
                return Unsubscribed(symbols, number)
        text = str(message.get("errorMessage", "refused"))[:200]
        symbols = symbols or tuple(self._by_name[name].raw_symbol for name in named(text, self._by_name))
        return Refused(text, symbols, number, refusal(text), whole=not symbols)

    def _status(self, system: str) -> Sequence[Event]:
        before, self._system = self._system, system
        return [Closing(f"status: {system[:40]}")] if before == "online" != system else ()

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return Request("/0/public/Trades", {"pair": rest_name(pair), "count": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """Return `NO_ID`: this protocol has no trade ids."""
        rows_of(body)
        return NO_ID

    def parse_newest(self, body: bytes) -> Newest:
        """Return the newest trade by its time. Raises like `parse_page`."""
        rows, _ = rows_of(body)
        times = [fraction(f"{row.time:f}") for row in rows if not isinstance(row, InvalidItem)]
        return Newest(time=max(times, default=0))

    def history_request(self, gap: Gap) -> Request:
        """Request the trades of the window, including the one before it as proof of overlap."""
        return since(gap.pair, gap.since * 1000 - 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the window, with the same derived ids as over the websocket."""
        rows, cursor = rows_of(body, gap.pair)
        fills: list[Fill] = []
        invalid: list[InvalidItem] = []
        times: list[int] = []
        for row in rows:
            if isinstance(row, InvalidItem):
                invalid.append(row)
                continue
            text = f"{row.time:f}"
            times.append(fraction(text))
            if times[-1] <= gap.until:  # late trades have an earlier time than was requested
                fills.append(Fill(row.price, row.volume, text, row.side, row.order_type, row.misc))
        trades, inexact = partition(map(TradeBuilder(gap.pair, Source.BACKFILL, received), fills))
        as_requested = ascending(times) and later_than(request, rows)
        more = as_requested and max(times, default=gap.until + 1) <= gap.until
        return Page(
            trades, [*invalid, *inexact], after(request, gap.pair, cursor) if more else None,
            overlaps=(bool(times) and times[0] <= gap.since) or request != self.history_request(gap),
            reaches=any(time >= gap.until for time in times), consistent=as_requested and not invalid,
        )  # fmt: skip


class TradeBuilder:
    """Build the trades of one message or page. Their ids count the equal ones in it."""

    def __init__(self, pair: Pair, source: Source, received: int) -> None:
        self._pair = pair
        self._source = source
        self._received = received
        self._occurrences: Counter[tuple[int, tuple[str, ...]]] = Counter()

    def __call__(self, fill: Fill) -> Built:
        """Build the next trade. Raises `MalformedFrame` if its time is impossible."""
        pair, timestamp, side = self._pair, fraction(fill.time), SIDES[fill.side]
        content = (pair.symbol, _normal(fill.price), _normal(fill.volume), side.value, fill.order_type)
        trade_id = derived_trade_id("KRAKEN", timestamp, content, self._occurrences[timestamp, content])
        self._occurrences[timestamp, content] += 1
        vendor = (
            ("pair", pair.raw_symbol), ("order_type", ORDER_TYPES.get(fill.order_type, fill.order_type)),
            ("misc", fill.misc), ("source", self._source.value),
        )  # fmt: skip
        return build_trade("KRAKEN", pair, trade_id, timestamp, fill.price, fill.volume, side, self._received, vendor)


def _unsubscribed(name: str) -> InvalidItem:
    return InvalidItem(UNSUBSCRIBED, f"{name[:40]!r} was not subscribed")


def _normal(number: str) -> str:
    """Normalize a number: REST sends 30243.40000, the websocket 30243.40000000."""
    try:
        return format_decimal(scaled(number))
    except InexactValue:
        return number[:40]


def _v1_name(pair: Pair) -> str:
    return "/".join(own_assets(pair))


def _request(event: str, pairs: Sequence[Pair], number: int) -> bytes:
    names = [_v1_name(pair) for pair in pairs]
    return msgspec.json.encode({"event": event, "reqid": number, "pair": names, "subscription": {"name": "trade"}})
