"""Bybit v5 spot (bybit-exchange.github.io/docs/v5, "Orderbook"): frames to books of up to 1,000 levels a side.

The update id `u` rises by 1 with each message; the documentation promises that for another topic, and it was observed
for these. Any later snapshot replaces the book: also the one with the update id 1, after a restart of the exchange's
service. The exchange deletes the levels that fall out.
"""

import dataclasses
from collections.abc import Sequence

from k2.ingest.books.records import Ids
from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    json_object,
    millis,
)
from k2.ingest.exchanges.bybit.control import BybitControl
from k2.ingest.exchanges.bybit.messages import BOOK_FRAME, BookFrame
from k2.ingest.exchanges.bybit.spec import BybitSpec
from k2.ingest.exchanges.items import invalid_item, rejected
from k2.ingest.exchanges.streamed_books import StreamedBookAdapter
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import InexactValue


class BybitBook(BybitSpec, BybitControl, StreamedBookAdapter):
    """Order books of Bybit v5 spot."""

    has_sequence = False
    record_ids = ""

    def __init__(self, pairs: Sequence[Pair], **options: int) -> None:
        super().__init__(pairs, **options)
        self.topic = f"orderbook.{self.depth}."
        self.limits = dataclasses.replace(self.limits, argument_characters=len(self.topic))

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe request."""
        self._begin(pairs)
        return super().subscribe(pairs, number)

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            message = BOOK_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self._other(frame, error, received)
        if not message.topic.startswith(self.topic):
            return self.control(frame)
        pair = self._by_name.get(message.data.s)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{message.data.s[:40]!r} was not subscribed")]
        try:
            return self._message(pair, message, received)
        except (InexactValue, MalformedFrame) as error:
            return self._invalid(pair, rejected(error, pair), received)

    def _message(self, pair: Pair, message: BookFrame, received: int) -> list[Event]:
        data = message.data
        if not 0 <= data.u < 2**63:
            raise MalformedFrame(f"update id {str(data.u)[:40]} is not a whole number from 0 to 2**63 - 1")
        time = millis(message.ts if message.cts is None else message.cts)
        levels, tracked = self._records.message(pair.symbol, data.b, data.a), self._of(pair)
        if message.type == "snapshot":
            return self._state(tracked, levels, Ids(last=data.u), received, time)
        return self._change(tracked, levels, Ids(data.u, data.u, data.u - 1), received, time)

    def _other(self, frame: bytes, cause: Exception, received: int) -> Sequence[Event]:
        message = json_object(frame)
        if not str(message.get("topic", "")).startswith(self.topic):
            return self.control(frame, str(cause))
        item = invalid_item(message.get("data"), cause, self._by_name, "s")
        pair = next((pair for pair in self._pairs if pair.symbol == item.symbol), None)
        return self._invalid(pair, item, received)
