"""Sends the changes of the order books to those who subscribed to quotes or books. `truth` is the books themselves."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from k2.ingest.exchanges.base_venue import Venue, number
from k2.ingest.simulator.books.damage import BookDamage
from k2.ingest.simulator.connections import Connection
from k2.ingest.simulator.fault_injector import FaultInjector
from k2.ingest.simulator.faults import Fault
from k2.ingest.simulator.order_book import OrderBook, OrderBooks, SimChange


class BookFeed:
    """The quotes and books of one exchange."""

    def __init__(
        self, venue: Venue, books: OrderBooks, faults: FaultInjector, connections: Collection[Connection]
    ) -> None:
        self._venue = venue
        self._damage = BookDamage(venue, books, faults)
        self._connections = connections
        self.begin: dict[str, Callable[[Fault], None]] = {"book-jump": self._jump, "book-reset": self._reset}

    def send(self, change: SimChange) -> None:
        """Send the frames of a change."""
        raw_symbol = change.book.pair.raw_symbol
        clients = self._clients(raw_symbol)
        # Frames are built only where someone wants them: a replay as fast as can be has many changes a millisecond.
        if change.quote and (subscribed := [each for each in clients if raw_symbol in each.client.quotes]):
            _put(subscribed, self._venue.quote_frames(change.quote))
        if subscribed := [each for each in clients if raw_symbol in each.client.books]:
            _put(subscribed, self._damage.frames(change))

    def _jump(self, fault: Fault) -> None:
        self._damage.jump(int(fault.amount), fault.target)

    def _reset(self, fault: Fault) -> None:
        for raw_symbol, frames in self._damage.reset(fault.target):
            _put([each for each in self._clients(raw_symbol) if raw_symbol in each.client.books], frames)

    def _clients(self, raw_symbol: str) -> list[Connection]:
        return [each for each in self._connections if raw_symbol not in each.client.stuck | each.client.frozen]


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
