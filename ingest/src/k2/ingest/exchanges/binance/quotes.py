"""Binance spot (developers.binance.com, WebSocket Streams, "Individual Symbol Book Ticker Streams"): frames to quotes.

A frame has no time of the exchange. Its `u` is of the same numbering as the ids of the diff. depth stream.
"""

from collections.abc import Sequence

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    MALFORMED_ITEM,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    json_object,
)
from k2.ingest.exchanges.binance.control import BinanceControl
from k2.ingest.exchanges.binance.messages import QUOTE_FRAME
from k2.ingest.exchanges.binance.spec import BinanceSpec
from k2.ingest.exchanges.items import invalid_item
from k2.ingest.exchanges.quotes import QuoteAdapter


class BinanceQuotes(BinanceSpec, BinanceControl, QuoteAdapter):
    """Best bid and ask of Binance spot."""

    has_sequence = False
    stream = "bookTicker"

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            data = QUOTE_FRAME.decode(frame).data
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        pair = self._by_name.get(data.s)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{data.s[:40]!r} was not subscribed")]
        if not 0 <= data.u < 2**63:
            reason = f"update id {str(data.u)[:40]} is not a whole number from 0 to 2**63 - 1"
            return [InvalidItem(MALFORMED_ITEM, reason, pair.symbol)]
        return [self._quote(pair, (data.b, data.B), (data.a, data.A), received, sequence=data.u)]

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        if self._is_own(message.get("stream")):
            return [invalid_item(message.get("data"), cause, self._by_name, "s")]
        return self.control(message)
