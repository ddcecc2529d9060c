"""Bybit v5 spot (bybit-exchange.github.io/docs/v5, `publicTrade`): frames to trades.

Ids are unique but not consecutive per symbol, and REST returns only the newest 60 trades: after a reconnect,
completeness is proved if the last delivered trade is among them.
"""

from collections.abc import Sequence
from functools import partial

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    SequencedRecord,
    build_trade,
    millis,
)
from k2.ingest.exchanges.bybit.control import BybitControl
from k2.ingest.exchanges.bybit.messages import FRAME, ITEM, RAW_FRAME, SIDES, TradeItem
from k2.ingest.exchanges.bybit.rest import BybitRest, check_trade_id
from k2.ingest.exchanges.bybit.spec import TRADES_TOPIC, BybitSpec
from k2.ingest.exchanges.items import decode_items, numbered
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source


class Bybit(BybitSpec, BybitControl, BybitRest):
    """Bybit v5 spot trades."""

    topic = TRADES_TOPIC

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
            if not message.topic.startswith(self.topic):
                return self.control(frame)
            return numbered([self._trade(item, received) for item in message.data])
        except (*DECODE_ERRORS, MalformedFrame):
            return self._one_by_one(frame, received)

    def _one_by_one(self, frame: bytes, received: int) -> Sequence[Event]:
        try:
            message = RAW_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self.control(frame, str(error))
        if not message.topic.startswith(self.topic):
            return self.control(frame)
        build = partial(self._trade, received=received)
        return decode_items(message.data, ITEM, build, self._by_name, "s")

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
