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
    Event,
    Gap,
    InvalidItem,
    Limits,
    MalformedFrame,
    NewestTradeSnapshot,
    Page,
    Refused,
    Request,
    SequencedRecord,
    Subscribed,
    Unknown,
    build_trade,
    chunks,
    fraction,
    json_object,
    partition,
)
from k2.ingest.exchanges.kraken.messages import ORDER_TYPES, SIDES
from k2.ingest.exchanges.kraken.parse import Kraken
from k2.ingest.exchanges.kraken.rest import after, later_than, rest_name, rows_of, since
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source, derived_trade_id
from k2.schemas.values import InexactValue, format_decimal, scaled

_PAIRS_PER_MESSAGE = 100
_SILENT_EVENTS = frozenset({"heartbeat", "systemStatus", "pong"})

# price, volume, seconds with six decimals, side, order type, misc
_Fill = tuple[str, str, str, Literal["b", "s"], str, str]
_FRAME = msgspec.json.Decoder(tuple[int, list[_Fill], Literal["trade"], str])


class KrakenV1(NewestTradeSnapshot):
    """Kraken spot trades over the older protocol; selected by the endpoint `wss://ws.kraken.com#v1`."""

    spec = EXCHANGES["kraken"]
    has_sequence = False
    record_ids = r"KRAKEN-[0-9]+-[0-9a-f]{16}"
    url = Kraken.url
    path = ""
    rest_url = Kraken.rest_url
    limits = Limits(stale_after=5.0)
    rest_budget = Kraken.rest_budget

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._by_name = {_v1_name(pair): pair for pair in pairs}

    def subscribe_messages(self) -> list[bytes]:
        """Return subscribe messages."""
        return [
            msgspec.json.encode(
                {
                    "event": "subscribe",
                    "pair": [_v1_name(pair) for pair in chunk],
                    "subscription": {"name": "trade"},
                }
            )
            for chunk in chunks(self._pairs, _PAIRS_PER_MESSAGE)
        ]

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
        if kind == "subscriptionStatus":
            return [self._subscription(message)]
        if isinstance(kind, str):
            return [Unknown(kind[:40])]
        raise MalformedFrame("an object without the event that Kraken documents")

    def _subscription(self, message: dict[str, Any]) -> Event:
        pair = self._by_name.get(str(message.get("pair", "")))
        named = (pair.raw_symbol,) if pair else ()
        if message.get("status") == "subscribed":
            return Subscribed(named)
        return Refused(str(message.get("errorMessage", "refused"))[:200], named)

    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade."""
        return Request("/0/public/Trades", {"pair": rest_name(pair), "count": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """Return `NO_ID`: this protocol has no trade ids."""
        rows_of(body)
        return NO_ID

    def history_request(self, gap: Gap) -> Request:
        """Request the trades of the window, including the one before it as proof of overlap."""
        return since(gap.pair, gap.since * 1000 - 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse the trades of the window, with the same derived ids as over the websocket."""
        rows, cursor = rows_of(body, gap.pair)
        fills: list[_Fill] = []
        invalid: list[InvalidItem] = []
        times: list[int] = []
        for row in rows:
            if isinstance(row, InvalidItem):
                invalid.append(row)
                continue
            text = f"{row.time:f}"
            times.append(fraction(text))
            if gap.since <= times[-1] <= gap.until:
                fills.append((row.price, row.volume, text, row.side, row.order_type, row.misc))
        trades, inexact = partition(_identified(gap.pair, fills, Source.BACKFILL, received))
        as_requested = times == sorted(times) and later_than(request, rows)
        more = as_requested and bool(times) and times[-1] <= gap.until
        return Page(
            trades, [*invalid, *inexact], after(request, gap.pair, cursor) if more else None,
            overlaps=any(time <= gap.since for time in times) or request != self.history_request(gap),
            reaches=any(time >= gap.until for time in times), consistent=as_requested and not invalid,
        )  # fmt: skip


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
