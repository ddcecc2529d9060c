"""OKX v5 spot (okx.com/docs-v5, `trades` channel): frames to trades.

One message may aggregate several fills: `tradeId` is the last of `count` ids, so the previous message ends with id
`tradeId - count`.
"""

from collections.abc import Sequence

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    Event,
)
from k2.ingest.exchanges.okx.control import OkxControl
from k2.ingest.exchanges.okx.messages import FRAME
from k2.ingest.exchanges.okx.rest import OkxRest, build_okx_trade
from k2.ingest.exchanges.okx.spec import OkxSpec
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source


class Okx(OkxSpec, OkxControl, OkxRest):
    """OKX v5 spot trades."""

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
            trades = FRAME.decode(frame).data
        except DECODE_ERRORS as error:
            return self.control(frame, error)
        return [build_okx_trade(item, self._by_name, Source.LIVE, received) for item in trades]
