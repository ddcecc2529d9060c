"""Bybit v5 spot (bybit-exchange.github.io/docs/v5, `publicTrade`): frames in, trades out.

No sockets and no clock here; the session owns both. Ids are unique but not consecutive per symbol, and REST gives
only the newest 60 trades: after a reconnect K2 either finds the last trade it had among them, which proves that
nothing is missing, or says that it cannot know.
"""

from collections.abc import Sequence
from typing import Any, Literal

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
    json_object,
    millis,
    millis_text,
    partition,
)
from k2.schemas.exchanges.spec import EXCHANGES, Pair
from k2.schemas.records.trade import Side, Source

_PAIRS_A_MESSAGE = 10  # spot takes ten arguments a request
_ROWS = 60
_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
_TOPIC = "publicTrade."
_RATE_LIMITED = 10006
_BAD_SYMBOL = 10001


class _Trade(msgspec.Struct):
    T: int
    s: str
    S: Literal["Buy", "Sell"]
    v: str
    p: str
    i: str
    BT: bool = False
    L: str = ""
    RPI: bool = False
    seq: int = 0


class _Frame(msgspec.Struct):
    topic: str
    data: list[_Trade]


class _Row(msgspec.Struct):
    execId: str  # noqa: N815 - the exchange's spelling
    price: str
    size: str
    side: Literal["Buy", "Sell"]
    time: str


class _Rows(msgspec.Struct):
    rows: list[_Row] = msgspec.field(name="list", default_factory=list)


class _Answer(msgspec.Struct):
    retCode: int  # noqa: N815
    result: _Rows = msgspec.field(default_factory=_Rows)
    retMsg: str = ""  # noqa: N815


_FRAME = msgspec.json.Decoder(_Frame)
_ANSWER = msgspec.json.Decoder(_Answer)


class Bybit:
    """Bybit spot trades."""

    spec = EXCHANGES["bybit"]
    has_sequence = False
    url = "wss://stream.bybit.com"
    path = "/v5/public/spot"
    rest = "https://api.bybit.com"
    limits = Limits(stale_after=30.0, ping_text='{"op":"ping"}', ping_interval=20.0)
    budget = RestBudget(rate=20.0, burst=20.0)  # of 600 in 5 s

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._known = {pair.raw_symbol: pair for pair in pairs}

    def subscribe_messages(self) -> list[bytes]:
        """Subscribe messages; the id of each says which pairs it was for."""
        return [
            msgspec.json.encode(
                {
                    "req_id": str(number),
                    "op": "subscribe",
                    "args": [_TOPIC + pair.raw_symbol for pair in chunk],
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
        if not message.topic.startswith(_TOPIC):
            return [Unknown(message.topic[:40])]
        return [self._observed(found, received) for found in message.data]

    def _observed(self, found: _Trade, received: int) -> SequencedTrade | InvalidItem:
        pair = self._known.get(found.s)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{found.s[:40]!r} was not subscribed")
        vendor = (
            ("pair", pair.raw_symbol), ("sequence", str(found.seq)), ("block_trade", str(found.BT).lower()),
            ("rpi", str(found.RPI).lower()), ("tick_direction", found.L), ("source", Source.LIVE.value),
        )  # fmt: skip
        return build_trade(
            "BYBIT",
            pair,
            _trade_id(found.i),
            millis(found.T),
            found.p,
            found.v,
            _SIDES[found.S],
            received,
            vendor,
        )

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        topic = message.get("topic")
        if isinstance(topic, str):
            if topic.startswith(_TOPIC):
                raise MalformedFrame(str(cause))
            return [Unknown(topic[:40])]
        match message.get("op"):
            case "ping" | "pong":
                return ()
            case "subscribe":
                return [self._subscription(message)]
            case str(kind):
                return [Unknown(kind[:40])]
        raise MalformedFrame("neither a topic nor an operation that Bybit documents")

    def _subscription(self, message: dict[str, Any]) -> Event:
        if message.get("success") is not True:
            text = str(message.get("ret_msg", "refused"))[:200]
            return Refused(text, tuple(raw_symbol for raw_symbol in self._known if _TOPIC + raw_symbol in text))
        number = str(message.get("req_id", ""))
        start = (int(number) - 1) * _PAIRS_A_MESSAGE if number.isascii() and number.isdigit() else len(self._pairs)
        return Subscribed(tuple(pair.raw_symbol for pair in self._pairs[max(start, 0) : start + _PAIRS_A_MESSAGE]))

    def newest_request(self, pair: Pair) -> Request:
        """The newest trade."""
        return self._recent(pair, 1)

    def parse_newest_id(self, body: bytes) -> int:
        """0: ids cannot be compared."""
        _rows(body)
        return 0

    def history_request(self, gap: Gap) -> Request:
        """The newest 60 trades, which is all there is."""
        return self._recent(gap.pair, _ROWS)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Trades of the window, and whether the one before it was still among the newest 60."""
        rows = _rows(body)
        items = (
            self._backfilled(gap, row, received)
            for row in rows
            if gap.since <= millis_text(row.time) <= gap.until and row.execId != gap.anchor
        )
        observed, invalid = partition(items)
        overlaps = any(row.execId == gap.anchor or millis_text(row.time) < gap.since for row in rows)
        return Page(observed, invalid, overlaps=overlaps)

    @staticmethod
    def _backfilled(gap: Gap, row: _Row, received: int) -> SequencedTrade | InvalidItem:
        vendor = (("pair", gap.pair.raw_symbol), ("source", Source.BACKFILL.value))
        return build_trade(
            "BYBIT", gap.pair, _trade_id(row.execId), millis_text(row.time), row.price, row.size, _SIDES[row.side],
            received, vendor,
        )  # fmt: skip

    @staticmethod
    def _recent(pair: Pair, limit: int) -> Request:
        params = {"category": "spot", "symbol": pair.raw_symbol, "limit": str(limit)}
        return Request("/v5/market/recent-trade", params)


def _trade_id(text: str) -> str:
    if not (0 < len(text) <= 64 and text.isascii() and text.isprintable()):
        raise MalformedFrame(f"trade id {text[:40]!r} is not printable ASCII of at most 64 characters")
    return text


def _rows(body: bytes) -> list[_Row]:
    try:
        answer = _ANSWER.decode(body)
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error
    if answer.retCode != 0:
        wait = 5.0 if answer.retCode == _RATE_LIMITED else None
        text = f"{answer.retCode}: {answer.retMsg}"[:200]
        raise RestRefused(text, retry_after=wait, unknown_symbol=answer.retCode == _BAD_SYMBOL)
    return answer.result.rows
