"""Kraken spot, websocket v2 (docs.kraken.com/api/docs/websocket-v2/ticker): frames to quotes.

The ticker with `event_trigger` bbo is sent with each change of the best bid or ask. Its numbers are JSON numbers and
are read as decimals, never as floats.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from k2.ingest.exchanges.base import DECODE_ERRORS, UNSUBSCRIBED, Event, InvalidItem, SequencedRecord
from k2.ingest.exchanges.items import decode_items
from k2.ingest.exchanges.kraken.control import KrakenControl
from k2.ingest.exchanges.kraken.messages import TICKER, TICKER_FRAME, Ticker, bare
from k2.ingest.exchanges.kraken.spec import KrakenSpec
from k2.ingest.exchanges.quotes import QuoteAdapter
from k2.schemas.values import to_micros


class KrakenQuotes(KrakenSpec, KrakenControl, QuoteAdapter):
    """Best bid and ask of Kraken spot."""

    has_sequence = False
    channel = "ticker"
    options: Mapping[str, str | bool] = MappingProxyType({"event_trigger": "bbo"})

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            raw_items = TICKER_FRAME.decode(frame).data
        except DECODE_ERRORS as error:
            return self.control(frame, error)
        return decode_items(raw_items, TICKER, partial(self._ticker, received=received), self._by_name, "symbol")

    def _ticker(self, item: Ticker, received: int) -> SequencedRecord | InvalidItem:
        pair = self._by_name.get(item.symbol)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{item.symbol[:40]!r} was not subscribed")
        time = None if item.timestamp is None else to_micros(item.timestamp)
        bid, ask = (bare(item.bid), bare(item.bid_qty)), (bare(item.ask), bare(item.ask_qty))
        return self._quote(pair, bid, ask, received, time=time)
