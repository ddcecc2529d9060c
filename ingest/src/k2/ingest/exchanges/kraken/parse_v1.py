"""Kraken spot, websocket v1 (arrays without trade ids): frames to trades.

v1 has no trade ids, so an id is derived from the trade's content, and a reconnect leaves a window that is closed by
comparing with REST.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

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
    SequencedRecord,
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
from k2.ingest.exchanges.kraken.control import refusal
from k2.ingest.exchanges.kraken.messages import ORDER_TYPES, SIDES
from k2.ingest.exchanges.kraken.parse import Kraken
from k2.ingest.exchanges.kraken.rest import after, rest_name, rows_of, since
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source, derived_trade_id
from k2.schemas.values import InexactValue, format_decimal, scaled

_ANSWERS = frozenset({"subscriptionStatus", "error"})
_SILENT_EVENTS = frozenset({"heartbeat", "pong"})

# price, volume, seconds with six decimals, side, order type, misc
_Fill = tuple[str, str, str, Literal["b", "s"], str, str]
_FRAME = msgspec.json.Decoder(tuple[int, list[_Fill], Literal["trade"], str])


class KrakenV1(NewestTradeSnapshot):
    """Kraken spot trades over the older protocol; selected by the endpoint `wss://ws.kraken.com#v1`."""

    spec = EXCHANGES["kraken"]
    has_sequence = False
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
            _, fills, _, name = _FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        pair = self._by_name.get(name)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{name[:40]!r} was not subscribed")]
        return list(_identified(pair, fills, Source.LIVE, received))

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
        return Newest(time=max((fraction(f"{row[2]:f}") for row in rows), default=0))

    def history_request(self, gap: Gap) -> Request:
        """Request the trades of the window, including the one before it as proof of overlap."""
        return since(gap.pair, gap.since * 1000 - 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the window, with the same derived ids as over the websocket."""
        rows, cursor = rows_of(body)
        fills = [
            (price, volume, f"{time:f}", side, order_type, misc)
            for price, volume, time, side, order_type, misc, _ in rows
            if gap.since <= fraction(f"{time:f}") <= gap.until
        ]
        trades, invalid = partition(_identified(gap.pair, fills, Source.BACKFILL, received))
        newest = fraction(f"{rows[-1][2]:f}") if rows else gap.until
        more = bool(rows) and newest <= gap.until
        return Page(trades, invalid, after(request, gap.pair, cursor) if more else None)


def _identified(
    pair: Pair, fills: Iterable[_Fill], source: Source, received: int
) -> Iterator[SequencedRecord | InvalidItem]:
    occurrences: Counter[tuple[int, tuple[str, ...]]] = Counter()
    for price, volume, time, side, order_type, misc in fills:
        timestamp = fraction(time)
        content = (pair.symbol, _normal(price), _normal(volume), SIDES[side].value, order_type)
        trade_id = derived_trade_id("KRAKEN", timestamp, content, occurrences[timestamp, content])
        occurrences[timestamp, content] += 1
        vendor = (
            ("pair", pair.raw_symbol), ("order_type", ORDER_TYPES.get(order_type, order_type)),
            ("misc", misc), ("source", source.value),
        )  # fmt: skip
        yield build_trade("KRAKEN", pair, trade_id, timestamp, price, volume, SIDES[side], received, vendor)


def _normal(number: str) -> str:
    """Normalize a number: REST sends 30243.40000, the websocket 30243.40000000."""
    try:
        return format_decimal(scaled(number))
    except InexactValue:
        return number[:40]


def _v1_name(pair: Pair) -> str:
    names = {"BTC": "XBT", "DOGE": "XDG"}
    return f"{names.get(pair.base, pair.base)}/{names.get(pair.quote, pair.quote)}"


def _request(event: str, pairs: Sequence[Pair], number: int) -> bytes:
    names = [_v1_name(pair) for pair in pairs]
    return msgspec.json.encode({"event": event, "reqid": number, "pair": names, "subscription": {"name": "trade"}})
