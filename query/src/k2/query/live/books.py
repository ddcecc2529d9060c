"""Keep the order books of a stream of `/v1/stream`: one for each connection, of which the best is shown."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from k2.query.book.reconstruction import BookMessage, ConnectionBook, preferred, without_ended
from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from k2.schemas.values import SCALE, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from k2.query.book.reconstruction import Book, Levels

_PLAIN: Final = ("part", "parts", "first_id", "last_id", "previous_id", "connection", "ordinal")


class LiveBooks:
    """The books of a stream, by exchange and symbol. Not thread-safe."""

    def __init__(self) -> None:
        self._connections: dict[tuple[str, str], dict[str, ConnectionBook]] = defaultdict(dict)

    def add(self, record: Mapping[str, Any]) -> None:
        """Apply the next event of the stream; one that its connection's book includes already changes nothing.

        Raises `ValueError` for levels that are not of the stream's format.
        """
        connections = self._connections[record["exchange"], record["symbol"]]
        book = connections.setdefault(record["connection"], ConnectionBook())
        if record["ordinal"] >= book.ordinal:  # the parts of the first snapshot have one ordinal
            book.add(_message(record))

    def books(self) -> dict[tuple[str, str], Book]:
        """Return the book of each exchange and symbol: the best verdict, then the newest; forget what has ended."""
        shown = {}
        for key, connections in self._connections.items():
            books = {name: book for name, each in connections.items() if (book := each.book()) is not None}
            current = without_ended(books)
            for name in books.keys() - current.keys():
                del connections[name]
            if (best := preferred(current.values())) is not None:
                shown[key] = best
        return shown


def _message(record: Mapping[str, Any]) -> BookMessage:
    return BookMessage(
        time=datetime.fromisoformat(record["timestamp"] or record["ingestion_timestamp"]),
        kind=BookKind(record["kind"]),
        verdict=Verdict(record["verdict"]),
        bids=_levels(record["bids"]),
        asks=_levels(record["asks"]),
        price_exponent=-SCALE,
        quantity_exponent=-SCALE,
        **{name: record[name] for name in _PLAIN},
    )


def _levels(levels: list[dict[str, str]]) -> Levels:
    return tuple((scaled(level["price"]), _quantity(level["quantity"])) for level in levels)


def _quantity(text: str) -> int:
    return 0 if text == "0" else scaled(text)
