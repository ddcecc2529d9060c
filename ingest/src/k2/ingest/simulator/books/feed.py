"""Sends the changes of the order books to those who subscribed to quotes or books. `truth` is the books themselves."""

from collections.abc import Iterable
from typing import Any

from k2.ingest.exchanges.base_venue import Venue, number
from k2.ingest.simulator.connections import Connection
from k2.ingest.simulator.order_book import OrderBook, SimChange


class BookFeed:
    """The quotes and books of one exchange."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def send(self, change: SimChange, connections: Iterable[Connection]) -> None:
        """Send the frames of a change."""
        raw_symbol = change.book.pair.raw_symbol
        clients = [
            connection
            for connection in connections
            if raw_symbol not in connection.client.stuck | connection.client.frozen
        ]
        # Frames are built only where someone wants them: a replay as fast as can be has many changes a millisecond.
        if change.quote and (subscribed := [each for each in clients if raw_symbol in each.client.quotes]):
            _put(subscribed, self._venue.quote_frames(change.quote))
        if subscribed := [each for each in clients if raw_symbol in each.client.books]:
            _put(subscribed, self._venue.book_frames(change))


def _put(connections: Iterable[Connection], frames: Iterable[str]) -> None:
    for frame in frames:
        for connection in connections:
            connection.put(frame)


def truth(book: OrderBook) -> dict[str, Any]:
    """Return a book as a JSON document: its levels as decimal texts, and the number of its last change."""
    bids, asks = book.levels()
    return {
        "update": book.update,
        "bids": [[number(price, 0), number(quantity, 0)] for price, quantity in bids],
        "asks": [[number(price, 0), number(quantity, 0)] for price, quantity in asks],
    }
