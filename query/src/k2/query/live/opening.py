"""Begin a stream of order books with the state of each connection: deltas alone say nothing.

The subscription is made first and its records wait, then the states are read. What a state includes of those records
is left out, so no message is missing or counted twice.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from k2.query.kafka.row_types import row_type
from k2.query.live.subscriptions import Event
from k2.schemas.channels import BOOK
from k2.schemas.records.book import BookKind
from k2.schemas.values import SCALE, to_micros

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from k2.query.book.reader import BookState
    from k2.query.book.reconstruction import Levels
    from k2.query.kafka.row_types import Row
    from k2.query.live.subscriptions import Dropped, Heartbeat

_MOST_LEVELS: Final = 4_000  # in a part of a snapshot, as in Kafka: less than the MiB that websocket clients take
_PLACES: Final = tuple(map(BOOK.column_names.index, ("exchange", "symbol", "connection", "ordinal", "kind")))

Key = tuple[str, str, str]  # exchange, symbol and connection


async def from_states(
    states: Sequence[BookState], events: AsyncGenerator[Event | Heartbeat | Dropped], first_id: str
) -> AsyncGenerator[Event | Heartbeat | Dropped]:
    """Yield the states as snapshots with the id `first_id`, then the events that they do not include.

    Deltas of a connection without a state are left out until it sends a snapshot.
    """
    begun = {(state.exchange, state.symbol, state.connection): state.ordinal for state in states}
    for state in states:
        for row in snapshot_rows(state):
            yield Event(row, first_id)
    del states
    async with aclosing(events):
        async for event in events:
            if not isinstance(event, Event) or follows(begun, event.row):
                yield event


def follows(begun: dict[Key, int], row: Row) -> bool:
    """Return whether a row comes after the state of its connection, or begins one; `begun` are their last ordinals."""
    exchange, symbol, connection, ordinal, kind = (row[place] for place in _PLACES)
    key = exchange, symbol, connection
    if key not in begun and kind != BookKind.SNAPSHOT:
        return False
    return bool(ordinal > begun.setdefault(key, 0))


def snapshot_rows(state: BookState) -> Iterator[Row]:
    """Return a state as the rows of a snapshot, which have the ordinal of the last message that it includes."""
    book, make = state.book, row_type(BOOK)
    sides = list(_parts(book.bids, book.asks))
    for number, (bids, asks) in enumerate(sides, 1):
        yield make(
            symbol=state.symbol,
            exchange=state.exchange,
            timestamp=to_micros(book.time),
            ingestion_timestamp=to_micros(book.time),
            kind=BookKind.SNAPSHOT.value,
            part=number,
            parts=len(sides),
            first_id=None,
            last_id=book.last_id,
            previous_id=None,
            bids=_level_rows(bids),
            asks=_level_rows(asks),
            price_exponent=-SCALE,
            quantity_exponent=-SCALE,
            connection=state.connection,
            ordinal=state.ordinal,
            verdict=book.verdict.value,
            clock_offset_ms=None,
        )


def _parts(bids: Levels, asks: Levels) -> Iterator[tuple[Levels, Levels]]:
    for first in range(0, max(1, len(bids) + len(asks)), _MOST_LEVELS):
        end, skipped = first + _MOST_LEVELS, len(bids)
        yield bids[first:end], asks[max(0, first - skipped) : max(0, end - skipped)]


def _level_rows(levels: Iterable[tuple[int, int]]) -> list[dict[str, int]]:
    return [{"price": price, "quantity": quantity} for price, quantity in levels]
