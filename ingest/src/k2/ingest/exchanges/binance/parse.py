"""Binance spot (developers.binance.com, WebSocket Streams and Market Data endpoints): frames to trades.

Ids are consecutive per symbol, and any id range can be requested without an API key.
"""

from collections.abc import Sequence

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    INEXACT,
    MALFORMED_ITEM,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    SequencedRecord,
    json_object,
    millis,
)
from k2.ingest.exchanges.binance.control import BinanceControl
from k2.ingest.exchanges.binance.messages import FRAME
from k2.ingest.exchanges.binance.rest import BinanceRest, vendor_data
from k2.ingest.exchanges.binance.spec import BinanceSpec
from k2.ingest.exchanges.items import invalid_item
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Source, Trade
from k2.schemas.values import InexactValue, scaled


class Binance(BinanceSpec, BinanceControl, BinanceRest):
    """Binance spot trades."""

    stream = "trade"

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.set_pairs(pairs)

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        self._pairs = pairs
        self._pairs_by_name = {pair.raw_symbol: pair for pair in pairs}
        # (sold, bought) side and vendor data per symbol, made once: the flag says whether the buyer was the maker.
        self._by_name = {
            pair.raw_symbol: (
                pair,
                (Side.SELL, vendor_data(pair, sold=True, source=Source.LIVE)),
                (Side.BUY, vendor_data(pair, sold=False, source=Source.LIVE)),
            )
            for pair in pairs
        }

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            data = FRAME.decode(frame).data
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        entry = self._by_name.get(data.s)
        if entry is None:
            return [InvalidItem(UNSUBSCRIBED, f"{data.s[:40]!r} was not subscribed")]
        pair, sold, bought = entry
        number = data.t
        if not 0 <= number < 2**63:
            reason = f"trade id {str(number)[:40]} is not a whole number from 0 to 2**63 - 1"
            return [InvalidItem(MALFORMED_ITEM, reason, pair.symbol)]
        side, vendor = sold if data.m else bought
        try:
            trade = Trade(
                str(number), pair.symbol, "BINANCE", pair.base, pair.quote, millis(data.T), scaled(data.p),
                scaled(data.q), side, received, vendor,
            )  # fmt: skip
        except InexactValue as error:
            return [InvalidItem(INEXACT, str(error), pair.symbol, number)]
        except MalformedFrame as error:
            return [InvalidItem(MALFORMED_ITEM, str(error), pair.symbol, number)]
        return [SequencedRecord(trade, number, number)]

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        data, stream = message.get("data"), message.get("stream")
        event = data if isinstance(data, dict) else message
        if (kind := event.get("e")) == self.stream or (kind is None and self._is_own(stream)):
            return [invalid_item(event, cause, self._pairs_by_name, "s", "t")]
        return self.control(message)
