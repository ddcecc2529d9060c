"""Kraken spot, websocket v2 (docs.kraken.com/api/docs/websocket-v2/trade): frames to trades.

Prices are JSON numbers and are read as decimals, never as floats. Each subscription begins with a snapshot of the
last 50 trades, which fills short gaps.
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
    trade_number,
)
from k2.ingest.exchanges.items import decode_items, numbered
from k2.ingest.exchanges.kraken.control import KrakenControl
from k2.ingest.exchanges.kraken.messages import FRAME, ITEM, RAW_FRAME, SIDES, Fill, bare
from k2.ingest.exchanges.kraken.rest import KrakenRest
from k2.ingest.exchanges.kraken.spec import KrakenSpec
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source
from k2.schemas.values import to_micros


def _source(kind: object) -> Source:
    return Source.SNAPSHOT if kind == "snapshot" else Source.LIVE


class Kraken(KrakenSpec, KrakenControl, KrakenRest):
    """Kraken spot trades."""

    channel = "trade"

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
            source = _source(message.type)
            return numbered([self._fill(item, source, received) for item in message.data])
        except (*DECODE_ERRORS, MalformedFrame):
            return self._one_by_one(frame, received)

    def _one_by_one(self, frame: bytes, received: int) -> Sequence[Event]:
        try:
            message = RAW_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self.control(frame, error)
        build = partial(self._fill, source=_source(message.type), received=received)
        return decode_items(message.data, ITEM, build, self._by_name, "symbol", "trade_id")

    def _fill(self, item: Fill, source: Source, received: int) -> SequencedRecord | InvalidItem:
        pair = self._by_name.get(item.symbol)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{item.symbol[:40]!r} was not subscribed")
        number = trade_number(item.trade_id)
        vendor = (("pair", pair.raw_symbol), ("order_type", item.ord_type), ("source", source.value))
        return build_trade(
            "KRAKEN", pair, str(number), to_micros(item.timestamp), bare(item.price), bare(item.qty),
            SIDES[item.side], received, vendor, ids=(number, number),
        )  # fmt: skip
