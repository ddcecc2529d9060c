"""OKX v5 spot (okx.com/docs-v5, "WS / All trades channel"): frames to trades.

The channel `trades-all` gives each fill, as the REST history does. The channel `trades` gives aggregates: `tradeId` is
the last of `count` ids, with the quantity of all. Both under one id would count volume twice, so it is never used.
"""

from collections.abc import Sequence
from functools import partial

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    Event,
    MalformedFrame,
)
from k2.ingest.exchanges.items import decode_items, numbered
from k2.ingest.exchanges.okx.control import OkxControl
from k2.ingest.exchanges.okx.messages import CHANNEL, FRAME, ITEM, RAW_FRAME
from k2.ingest.exchanges.okx.rest import OkxRest, build_okx_trade
from k2.ingest.exchanges.okx.spec import OkxSpec
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source


class Okx(OkxSpec, OkxControl, OkxRest):
    """OKX v5 spot trades."""

    channel = CHANNEL

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.set_pairs(pairs)

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        self._pairs = pairs
        self._by_name = {pair.raw_symbol: pair for pair in pairs}

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
            return self.control(frame, error)
        build = partial(build_okx_trade, pairs=self._by_name, source=Source.LIVE, received=received)
        return decode_items(raw_items, ITEM, build, self._by_name, "instId", "tradeId")
