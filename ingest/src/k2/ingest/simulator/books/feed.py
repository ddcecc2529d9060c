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
        quotes = list(self._venue.quote_frames(change.quote)) if change.quote else []
        books = list(self._venue.book_frames(change))
        for connection in connections:
            client = connection.client
            if raw_symbol in client.stuck | client.frozen:
                continue
            for frame in quotes if raw_symbol in client.quotes else ():
                connection.put(frame)
            for frame in books if raw_symbol in client.books else ():
                connection.put(frame)


def truth(book: OrderBook) -> dict[str, Any]:
    """Return a book as a JSON document: its levels as decimal texts, and the number of its last change."""
    bids, asks = book.levels()
    return {
        "update": book.update,
        "bids": [[number(price, 0), number(quantity, 0)] for price, quantity in bids],
        "asks": [[number(price, 0), number(quantity, 0)] for price, quantity in asks],
    }
