"""OKX v5 spot (okx.com/docs-v5, "WS / Order book channel", `bbo-tbt`): frames to quotes.

Every message is the best bid and ask, at most every 10 ms. `seqId` numbers the states of the instrument's order book,
in steps of any size.
"""

from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    SequencedRecord,
    millis_text,
)
from k2.ingest.exchanges.items import decode_items
from k2.ingest.exchanges.okx.control import OkxControl
from k2.ingest.exchanges.okx.messages import QUOTE_FRAME, QUOTES_CHANNEL, TOP, Top
from k2.ingest.exchanges.okx.spec import OkxSpec
from k2.ingest.exchanges.quotes import NO_ORDERS, Level, QuoteAdapter
from k2.schemas.exchanges.spec import Pair


class OkxQuotes(OkxSpec, OkxControl, QuoteAdapter):
    """Best bid and ask of OKX v5 spot."""

    has_sequence = False
    path = "/ws/v5/public"
    channel = QUOTES_CHANNEL

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        if frame == b"pong":
            return ()
        try:
            message = QUOTE_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self.control(frame, error)
        pair = self._by_name.get(message.arg.instId)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{message.arg.instId[:40]!r} was not subscribed")]
        items = decode_items(message.data, TOP, partial(self._top, pair=pair, received=received), {})
        return [replace(item, symbol=pair.symbol) if isinstance(item, InvalidItem) else item for item in items]

    def _top(self, item: Top, pair: Pair, received: int) -> SequencedRecord | InvalidItem:
        if not 0 <= item.seqId < 2**63:
            raise MalformedFrame(f"seqId {str(item.seqId)[:40]} is not a whole number from 0 to 2**63 - 1")
        bid, ask = _best(item.bids), _best(item.asks)
        return self._quote(pair, bid, ask, received, time=millis_text(item.ts), sequence=item.seqId)


def _best(levels: Sequence[Sequence[str]]) -> Level:
    if not levels:
        return NO_ORDERS
    if len(levels) > 1 or len(levels[0]) < 2:
        raise MalformedFrame(f"{len(levels)} levels instead of one with a price and a size")
    return levels[0][0], levels[0][1]
