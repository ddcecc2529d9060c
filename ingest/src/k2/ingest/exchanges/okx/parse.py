"""OKX v5 spot (okx.com/docs-v5, `trades` channel): frames in, trades out.

No sockets and no clock here; the session owns both. One message may aggregate several fills: `tradeId` is the
last of `count` ids, so that continuity asks whether the one before was `tradeId - count`.
"""

from collections.abc import Sequence
from typing import Literal

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
    millis_text,
    partition,
    positive_id,
)
from k2.schemas.exchanges.spec import EXCHANGES, Pair
from k2.schemas.records.trade import Side, Source

_PAIRS_A_MESSAGE = 300  # one request with many arguments counts once; arguments stay far below 64 kB
_ROWS = 100
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}
_RATE_LIMITED = frozenset({"50011", "50040", "50013"})
_NO_SUCH_INSTRUMENT = "51001"


class _Trade(msgspec.Struct):
    instId: str  # noqa: N815 - the exchange's spelling
    tradeId: str  # noqa: N815
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: str
    count: str = "1"  # absent before 2023
    source: str = ""
    seqId: int = 0  # noqa: N815


class _Arg(msgspec.Struct):
    channel: Literal["trades"]


class _Frame(msgspec.Struct):
    arg: _Arg
    data: list[_Trade]


class _Answer(msgspec.Struct):
    code: str
    data: list[_Trade] = []
    msg: str = ""


_FRAME = msgspec.json.Decoder(_Frame)
_ANSWER = msgspec.json.Decoder(_Answer)


class Okx:
    """OKX spot trades."""

    spec = EXCHANGES["okx"]
    has_sequence = True
    url = "wss://ws.okx.com:8443"
    path = "/ws/v5/public"
    rest = "https://www.okx.com"
    # The exchange cuts after 30 s of silence; a ping every 20 s brings a pong, and that is a frame.
    limits = Limits(stale_after=30.0, ping_text="ping", ping_interval=20.0)
    budget = RestBudget(rate=8.0, burst=10.0)  # of 20 in 2 s

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._known = {pair.raw_symbol: pair for pair in pairs}

    def subscribe_messages(self) -> list[bytes]:
        """Subscribe messages."""
        return [
            msgspec.json.encode(
                {
                    "id": str(number),
                    "op": "subscribe",
                    "args": [{"channel": "trades", "instId": pair.raw_symbol} for pair in chunk],
                }
            )
            for number, chunk in enumerate(chunks(self._pairs, _PAIRS_A_MESSAGE), start=1)
        ]

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """What one frame says; raises `MalformedFrame`."""
        if frame == b"pong":
            return ()
        try:
            trades = _FRAME.decode(frame).data
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        return [self._observed(found, Source.LIVE, received) for found in trades]

    def _observed(self, found: _Trade, source: Source, received: int) -> SequencedTrade | InvalidItem:
        pair = self._known.get(found.instId)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{found.instId[:40]!r} was not subscribed")
        last, count = positive_id(found.tradeId), positive_id(found.count)
        vendor = (
            ("pair", pair.raw_symbol), ("count", found.count), ("sequence", str(found.seqId)),
            ("order_source", found.source), ("source", source.value),
        )  # fmt: skip
        return build_trade(
            "OKX", pair, str(last), millis_text(found.ts), found.px, found.sz, _SIDES[found.side], received, vendor,
            ids=(max(1, last - count + 1), last),
        )  # fmt: skip

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        arg = message.get("arg")
        arg = arg if isinstance(arg, dict) else {}
        match message.get("event"):
            case "subscribe":
                return [Subscribed((str(arg.get("instId", "")),))]
            case "error":
                text = f"{message.get('code')}: {message.get('msg')}"[:200]
                return [Refused(text, tuple(raw_symbol for raw_symbol in self._known if raw_symbol in text))]
            case str(kind):
                return [Unknown(kind[:40])]
        if arg.get("channel") == "trades":
            raise MalformedFrame(str(cause))
        if isinstance(arg.get("channel"), str):
            return [Unknown(arg["channel"][:40])]
        raise MalformedFrame("neither data nor an event that OKX documents")

    def newest_request(self, pair: Pair) -> Request:
        """The newest trade."""
        return Request("/api/v5/market/trades", {"instId": pair.raw_symbol, "limit": "1"})

    def parse_newest_id(self, body: bytes) -> int:
        """The id of the newest trade."""
        return max((positive_id(row.tradeId) for row in _rows(body)), default=0)

    def history_request(self, gap: Gap) -> Request:
        """Single fills older than the trade after the gap, newest first."""
        return self._older_than(gap, gap.last_id + 1)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Trades of the gap in one answer, and the next request while some are left."""
        rows = _rows(body)
        numbers = [positive_id(row.tradeId) for row in rows]
        items = (
            self._observed(row, Source.BACKFILL, received)
            for row, number in zip(rows, numbers, strict=True)
            if gap.first_id <= number <= gap.last_id
        )
        observed, invalid = partition(items)
        oldest = min(numbers, default=0)
        return Page(observed, invalid, self._older_than(gap, oldest) if oldest > gap.first_id else None)

    @staticmethod
    def _older_than(gap: Gap, number: int) -> Request:
        params = {"instId": gap.pair.raw_symbol, "type": "1", "after": str(number), "limit": str(_ROWS)}
        return Request("/api/v5/market/history-trades", params)


def _rows(body: bytes) -> list[_Trade]:
    try:
        answer = _ANSWER.decode(body)
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error
    if answer.code != "0":
        text = f"{answer.code}: {answer.msg}"[:200]
        wait = 2.0 if answer.code in _RATE_LIMITED else None
        raise RestRefused(text, retry_after=wait, unknown_symbol=answer.code == _NO_SUCH_INSTRUMENT)
    return answer.data
