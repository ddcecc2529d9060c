"""OKX v5 spot (okx.com/docs-v5, "WS / All trades channel"): frames to trades.

The channel `trades-all` gives each fill, as the REST history does. The channel `trades` gives aggregates: `tradeId` is
the last of `count` ids, with the quantity of all. Both under one id would count volume twice, so it is never used.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    Event,
    MalformedFrame,
    Refused,
    Subscribed,
    Unknown,
    chunks,
    json_object,
)
from k2.ingest.exchanges.items import decode_items, numbered
from k2.ingest.exchanges.okx.messages import CHANNEL, FRAME, ITEM, RAW_FRAME
from k2.ingest.exchanges.okx.rest import OkxRest, build_okx_trade
from k2.ingest.exchanges.okx.spec import OkxSpec
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source

_PAIRS_PER_MESSAGE = 300  # one request with many arguments counts once; arguments stay far below 64 kB


class Okx(OkxSpec, OkxRest):
    """OKX v5 spot trades."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._by_name = {pair.raw_symbol: pair for pair in pairs}

    def subscribe_messages(self) -> list[bytes]:
        """Return subscribe messages."""
        return [
            msgspec.json.encode(
                {
                    "id": str(number),
                    "op": "subscribe",
                    "args": [{"channel": CHANNEL, "instId": pair.raw_symbol} for pair in chunk],
                }
            )
            for number, chunk in enumerate(chunks(self._pairs, _PAIRS_PER_MESSAGE), start=1)
        ]

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        if frame == b"pong":
            return ()
        try:
            items, pairs = FRAME.decode(frame).data, self._by_name
            return numbered([build_okx_trade(item, pairs, Source.LIVE, received) for item in items])
        except (*DECODE_ERRORS, MalformedFrame):
            return self._one_by_one(frame, received)

    def _one_by_one(self, frame: bytes, received: int) -> Sequence[Event]:
        try:
            raw_items = RAW_FRAME.decode(frame).data
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        build = partial(build_okx_trade, pairs=self._by_name, source=Source.LIVE, received=received)
        return decode_items(raw_items, ITEM, build, self._by_name, "instId", "tradeId")

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        arg = message.get("arg")
        arg = arg if isinstance(arg, dict) else {}
        match message.get("event"):
            case "subscribe":
                return [Subscribed((str(arg.get("instId", "")),))]
            case "error":
                text = f"{message.get('code')}: {message.get('msg')}"[:200]
                return [Refused(text, tuple(raw_symbol for raw_symbol in self._by_name if raw_symbol in text))]
            case str(kind):
                return [Unknown(kind[:40])]
        if arg.get("channel") == CHANNEL:
            raise MalformedFrame(str(cause))
        if isinstance(arg.get("channel"), str):
            return [Unknown(arg["channel"][:40])]
        raise MalformedFrame("neither data nor an event that OKX documents")
