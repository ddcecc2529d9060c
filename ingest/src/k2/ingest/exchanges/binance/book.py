"""Binance spot (developers.binance.com, "How to manage a local order book correctly"): diff. depth frames to books.

The stream has changes only. The state comes over REST, `/api/v3/depth`, and is spliced in by the ids. Deletions of
levels that are not there are normal: they lie beyond the 5,000 that REST shows. Levels beyond them that never changed
stay unknown.
"""

from collections.abc import Sequence
from typing import Final

from k2.ingest.books.records import Ids
from k2.ingest.books.splice import Change, Outcome, SplicedBook
from k2.ingest.books.state import OrderBook
from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    MALFORMED_ITEM,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    Request,
    StateSource,
    json_object,
    millis,
)
from k2.ingest.exchanges.binance.control import BinanceControl
from k2.ingest.exchanges.binance.messages import DEPTH, DEPTH_FRAME, DepthUpdate
from k2.ingest.exchanges.binance.spec import BinanceSpec
from k2.ingest.exchanges.books import BookAdapter, Tracked
from k2.ingest.exchanges.items import invalid_item, rejected
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import InexactValue

_EVENT: Final = "depthUpdate"
_WEIGHTS: Final = {100: 5.0, 500: 25.0, 1_000: 50.0, 5_000: 250.0}  # of a request, by its limit
_STALE_FOR: Final = 10_000_000  # microseconds; a snapshot is ahead of the stream by seconds at most


class BinanceBook(BinanceSpec, BinanceControl, BookAdapter[SplicedBook], StateSource):
    """Order books of Binance spot."""

    has_sequence = False
    stream = "depth@100ms"

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return a SUBSCRIBE request."""
        self._begin(pairs)
        return super().subscribe(pairs, number)

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            data = DEPTH_FRAME.decode(frame).data
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        pair = self._by_name.get(data.s)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{data.s[:40]!r} was not subscribed")]
        return self._update(pair, data, received)

    def _update(self, pair: Pair, data: DepthUpdate, received: int) -> Sequence[Event]:
        if not 0 <= data.U <= data.u < 2**63:
            reason = f"ids {str(data.U)[:40]} to {str(data.u)[:40]} are no range of numbers from 0 to 2**63 - 1"
            return [InvalidItem(MALFORMED_ITEM, reason, pair.symbol)]
        try:
            time = millis(data.E)
            message = self._records.message(pair.symbol, data.b, data.a)
        except (InexactValue, MalformedFrame) as error:
            return [rejected(error, pair)]
        tracked = self._of(pair)
        if tracked.unfit:
            return ()
        change = Change(data.U, data.u, message.scaled_bids, message.scaled_asks, time)
        outcome = self._judged(tracked, change, received)
        return self._delta(tracked, message, Ids(data.U, data.u), outcome, received, time)

    def lacking(self, now: int) -> Sequence[Pair]:
        """Return the pairs without a state of which changes came, those with most of them first.

        The first change must be there before the state is requested, since that must not be older.
        """
        lacking = [
            tracked for tracked in self._tracked.values()
            if tracked.book.last_id is None and tracked.book.waiting and now >= tracked.not_before
        ]  # fmt: skip
        return [each.pair for each in sorted(lacking, key=lambda each: (each.attempts, -each.missed))]

    def state_request(self, pair: Pair, now: int) -> Request:
        """Return the request for a pair's order book. The next attempt is due later."""
        self._attempt(self._of(pair), now)
        parameters = {"symbol": pair.raw_symbol, "limit": str(self.depth)}
        return Request("/api/v3/depth", parameters, _WEIGHTS[self.depth])

    def parse_state(self, pair: Pair, body: bytes, received: int) -> Sequence[Event]:
        """Splice an order book into the changes, and return its records if it joins them. Raises `MalformedFrame`."""
        tracked = self._of(pair)
        try:
            depth = DEPTH.decode(body)
            message = self._records.message(pair.symbol, depth.bids, depth.asks)
        except (*DECODE_ERRORS, InexactValue) as error:
            raise MalformedFrame(str(error)) from error
        if tracked.unfit or not 0 <= depth.lastUpdateId < 2**63 or tracked.book.last_id is not None:
            return ()
        if not tracked.book.snapshot(depth.lastUpdateId, message.scaled_bids, message.scaled_asks):
            return ()  # it is older than the changes, or some are missing after it
        return self._snapshot(tracked, Ids(last=tracked.book.last_id), received, tracked.book.time)

    def _new_book(self) -> SplicedBook:
        return SplicedBook()

    def _levels(self, book: SplicedBook) -> OrderBook:
        return book.book

    def _judged(self, tracked: Tracked[SplicedBook], change: Change, received: int) -> Outcome:
        """Return what becomes of a change. Ids that stay behind the state for long have begun again."""
        outcome = tracked.book.change(change)
        if outcome is Outcome.STALE and received - tracked.joined_at > _STALE_FOR:
            tracked.book.lose()
            tracked.book.change(change)
            return Outcome.LOST
        return outcome

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        data, stream = message.get("data"), message.get("stream")
        event = data if isinstance(data, dict) else message
        if event.get("e") == _EVENT or self._is_own(stream):
            return [invalid_item(event, cause, self._by_name, "s")]
        return self.control(message)
