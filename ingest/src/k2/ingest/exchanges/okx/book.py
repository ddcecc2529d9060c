"""OKX v5 spot (okx.com/docs-v5, "WS / Order book channel", `books`): frames to books of 400 levels a side.

Every message names the state that it follows, `prevSeqId`, and its own, `seqId`. Steps are of any size. A `seqId` below
its `prevSeqId` is a reset of the numbers, and no gap where the latter is the last one. A quiet book gets empty
messages. The exchange deletes the levels that fall out. Its checksum is 0 since 2026-06-23, and is not read.
"""

from collections.abc import Sequence

from k2.ingest.books.records import Ids
from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    millis_text,
)
from k2.ingest.exchanges.items import rejected
from k2.ingest.exchanges.okx.control import OkxControl
from k2.ingest.exchanges.okx.messages import BOOK, BOOK_CHANNEL, BOOK_FRAME, BookItem
from k2.ingest.exchanges.okx.spec import OkxSpec
from k2.ingest.exchanges.streamed_books import StreamedBookAdapter
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import InexactValue


class OkxBook(OkxSpec, OkxControl, StreamedBookAdapter):
    """Order books of OKX v5 spot."""

    has_sequence = False
    path = "/ws/v5/public"
    channel = BOOK_CHANNEL

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe request."""
        self._begin(pairs)
        return super().subscribe(pairs, number)

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        if frame == b"pong":
            return ()
        try:
            message = BOOK_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self.control(frame, error)
        pair = self._by_name.get(message.arg.instId)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{message.arg.instId[:40]!r} was not subscribed")]
        events: list[Event] = []
        for index, raw in enumerate(message.data):
            try:
                events += self._item(pair, BOOK.decode(raw), received, is_snapshot=message.action == "snapshot")
            except (*DECODE_ERRORS, InexactValue, MalformedFrame) as error:
                events += self._invalid(pair, rejected(error, pair, index), received)
        return events

    def _item(self, pair: Pair, item: BookItem, received: int, *, is_snapshot: bool) -> list[Event]:
        if not 0 <= item.seqId < 2**63 or not -1 <= item.prevSeqId < 2**63:
            raise MalformedFrame(f"seqId {str(item.seqId)[:40]} or prevSeqId is no number from 0 to 2**63 - 1")
        time = millis_text(item.ts)
        message, tracked = self._records.message(pair.symbol, item.bids, item.asks), self._of(pair)
        if is_snapshot:
            return self._state(tracked, message, Ids(last=item.seqId), received, time)
        return self._change(tracked, message, Ids(last=item.seqId, previous=item.prevSeqId), received, time)
