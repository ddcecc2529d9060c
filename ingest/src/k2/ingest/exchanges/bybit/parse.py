"""Bybit v5 spot (bybit-exchange.github.io/docs/v5, `publicTrade`): frames to trades.

Ids are unique but not consecutive per symbol, and REST returns only the newest 60 trades: after a reconnect,
completeness is proved if the last delivered trade is among them.
"""

from collections.abc import Sequence

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    SequencedRecord,
    Unknown,
    build_trade,
    millis,
)
from k2.ingest.exchanges.bybit.control import TOPIC, BybitControl
from k2.ingest.exchanges.bybit.messages import FRAME, SIDES, TradeItem
from k2.ingest.exchanges.bybit.rest import BybitRest, check_trade_id
from k2.ingest.exchanges.bybit.spec import BybitSpec
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source


class Bybit(BybitSpec, BybitControl, BybitRest):
    """Bybit v5 spot trades."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.set_pairs(pairs)

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        self._pairs = pairs
        self._by_name = {pair.raw_symbol: pair for pair in pairs}

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            message = FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self.control(frame, error)
        if not message.topic.startswith(TOPIC):
            return [Unknown(message.topic[:40])]
        return [self._trade(item, received) for item in message.data]

    def _trade(self, item: TradeItem, received: int) -> SequencedRecord | InvalidItem:
        pair = self._by_name.get(item.s)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{item.s[:40]!r} was not subscribed")
        vendor = (
            ("pair", pair.raw_symbol), ("sequence", str(item.seq)), ("block_trade", str(item.BT).lower()),
            ("rpi", str(item.RPI).lower()), ("tick_direction", item.L), ("source", Source.LIVE.value),
        )  # fmt: skip
        return build_trade(
            "BYBIT",
            pair,
            check_trade_id(item.i),
            millis(item.T),
            item.p,
            item.v,
            SIDES[item.S],
            received,
            vendor,
        )
