"""Bybit v5 spot (bybit-exchange.github.io/docs/v5, `orderbook.1`): frames to quotes.

At depth 1 every message is a snapshot. It is repeated after 3 seconds without a change, with the same update id. The
update id 1 says that the exchange's service was restarted.
"""

from collections.abc import Sequence

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    MALFORMED_ITEM,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    json_object,
    millis,
)
from k2.ingest.exchanges.bybit.control import BybitControl
from k2.ingest.exchanges.bybit.messages import TOP_FRAME, TopFrame
from k2.ingest.exchanges.bybit.spec import QUOTES_TOPIC, BybitSpec
from k2.ingest.exchanges.items import Built, invalid_item
from k2.ingest.exchanges.quotes import NO_ORDERS, QuoteAdapter

_RESTARTED = 1


class BybitQuotes(BybitSpec, BybitControl, QuoteAdapter):
    """Best bid and ask of Bybit v5 spot."""

    record_ids = ""
    topic = QUOTES_TOPIC

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            message = TOP_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        return [self._top(message, received)] if message.topic.startswith(self.topic) else self.control(frame)

    def _top(self, message: TopFrame, received: int) -> Built:
        data = message.data
        pair = self._by_name.get(data.s)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{data.s[:40]!r} was not subscribed")
        if len(data.b) > 1 or len(data.a) > 1 or not 0 <= data.u < 2**63:
            reason = f"{len(data.b)} bids and {len(data.a)} asks of update {str(data.u)[:40]}, instead of one of each"
            return InvalidItem(MALFORMED_ITEM, reason, pair.symbol)
        try:
            time = millis(message.ts if message.cts is None else message.cts)
        except MalformedFrame as error:
            return InvalidItem(MALFORMED_ITEM, str(error), pair.symbol)
        if data.u == _RESTARTED:
            self._newest.pop(pair.symbol, None)
        bid, ask = (levels[0] if levels else NO_ORDERS for levels in (data.b, data.a))
        return self._quote(pair, bid, ask, received, time=time, sequence=data.u)

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        if str(message.get("topic", "")).startswith(self.topic):
            return [invalid_item(message.get("data"), cause, self._by_name, "s")]
        return self.control(frame, str(cause))
