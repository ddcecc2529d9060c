"""Coinbase Exchange (docs.cdp.coinbase.com/exchange, "Level2 Batch Channel"): frames to books, without a key.

Changes come in batches of 50 ms. They have neither a sequence nor a checksum, so that what joins the state is
`unverifiable`. The book is whole: the first frame of a product is of several megabytes. Deletions of levels that are
not there are normal.
"""

import dataclasses
from collections.abc import Sequence
from typing import Final

from k2.ingest.books.records import Ids
from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    json_object,
)
from k2.ingest.exchanges.coinbase.control import CoinbaseControl
from k2.ingest.exchanges.coinbase.messages import LEVEL2, Level2Update, Snapshot
from k2.ingest.exchanges.coinbase.spec import CoinbaseSpec
from k2.ingest.exchanges.items import invalid_item, rejected
from k2.ingest.exchanges.streamed_books import StreamedBookAdapter
from k2.schemas.exchanges.spec import Pair
from k2.schemas.states import Verdict
from k2.schemas.values import InexactValue, to_micros

CHANNELS: Final = ("level2_batch", "heartbeat")
NAMES: Final = ("level2_batch", "level2_50", "level2")  # of the first, whose batches may stand in the answer
_KINDS: Final = frozenset({"snapshot", "l2update"})


class CoinbaseBook(CoinbaseSpec, CoinbaseControl, StreamedBookAdapter):
    """Order books of Coinbase Exchange."""

    has_sequence = False
    channels = CHANNELS
    names = NAMES
    certain = Verdict.UNVERIFIABLE
    limits = dataclasses.replace(CoinbaseSpec.limits, frame_bytes=16 << 20)

    def __init__(self, pairs: Sequence[Pair], **options: int) -> None:
        super().__init__(pairs, **options)
        self._times: dict[str, int] = {}  # the last one by symbol

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a subscribe message; the first must be sent within 5 seconds."""
        self._begin(pairs)
        return super().subscribe(pairs, number)

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`, after which no state is sure."""
        try:
            message = LEVEL2.decode(frame)
        except DECODE_ERRORS as error:
            return self._other(frame, error, received)
        pair = self._by_name.get(message.product_id)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{message.product_id[:40]!r} was not subscribed")]
        try:
            return self._message(pair, message, received)
        except InexactValue as error:
            return self._invalid(pair, rejected(error, pair), received)

    def _message(self, pair: Pair, message: Snapshot | Level2Update, received: int) -> list[Event]:
        time, tracked = self._time(pair, message), self._of(pair)
        if isinstance(message, Snapshot):
            levels = self._records.message(pair.symbol, message.bids, message.asks)
            return self._state(tracked, levels, Ids(), received, time)
        bids = [[price, size] for side, price, size in message.changes if side == "buy"]
        asks = [[price, size] for side, price, size in message.changes if side == "sell"]
        return self._change(tracked, self._records.message(pair.symbol, bids, asks), Ids(), received, time)

    def _time(self, pair: Pair, message: Snapshot | Level2Update) -> int | None:
        """Return the exchange's time; that of the message before if it is in the year 1, as in some valid ones."""
        time = to_micros(message.time) if message.time is not None else 0
        if time <= 0:
            return self._times.get(pair.symbol)
        self._times[pair.symbol] = time
        return time

    def _other(self, frame: bytes, cause: Exception, received: int) -> Sequence[Event]:
        try:
            message = json_object(frame)
            if message.get("type") == "heartbeat":
                return ()
            if message.get("type") not in _KINDS:
                return self.control(message)
        except MalformedFrame:
            self._lose_all()
            raise
        item = invalid_item(message, cause, self._by_name, "product_id")
        pair = next((pair for pair in self._pairs if pair.symbol == item.symbol), None)
        if pair is None:
            self._lose_all()
        return self._invalid(pair, item, received)
