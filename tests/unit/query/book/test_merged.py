"""Two connections to a simulated exchange, each cut while the other is not: their merged book is the undamaged one."""

import hashlib
from collections.abc import Iterable
from copy import copy
from datetime import datetime
from random import Random

import pytest

from k2.query.book.reconstruction import Book, BookMessage, books_at
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.book import BookUpdate
from k2.schemas.states import Verdict
from k2.schemas.values import from_micros
from tests.unit.ingest.books.feed import Feed, records

_ROUNDS = 100
_MESSAGES = 40
_MARGIN = 3  # messages between the cuts of the two connections
SHARED = [name for name, spec in EXCHANGES.items() if spec.books_share_ids]
Levels = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]


class Connection:
    """One connection of a feed: what it records, over its reconnects, and which messages it loses."""

    def __init__(self, feed: Feed, lost: set[int], cut: set[int]) -> None:
        self.feed, self.lost, self.cut = copy(feed), lost, cut
        self.rows: list[BookUpdate] = []
        self._connect()

    def receive(self, number: int, now: int, frames: Iterable[str]) -> None:
        """Take the frames of a message, unless they are lost; a cut connection comes back at the end of the cut."""
        self.feed.now = now
        if number in self.cut:
            if number + 1 not in self.cut:
                self._connect()
            return
        if number not in self.lost:
            for frame in frames:
                self.feed.receive(frame)
            self.feed.heal()
        self._collect()

    def _connect(self) -> None:
        self.feed.events = []
        self.feed.connect()
        self._collect()

    def _collect(self) -> None:
        self.rows += records(self.feed.events)
        self.feed.events = [event for event in self.feed.events if not hasattr(event, "record")]


def disturbed(rng: Random) -> tuple[list[set[int]], list[set[int]]]:
    """Messages that two connections lose, and those while they are cut: never both, and never close to each other."""
    lost: list[set[int]] = [set(), set()]
    cut: list[set[int]] = [set(), set()]
    place, turn = rng.randint(2, 6), rng.randrange(2)
    while place < _MESSAGES:
        numbers = set(range(place, place + rng.randint(1, 5)))
        (cut if rng.random() < 0.5 else lost)[turn].update(numbers)
        place, turn = max(numbers) + 1 + rng.randint(_MARGIN, 8), 1 - turn
    return lost, cut


def market(exchange: str, seed: int) -> tuple[list[BookMessage], list[BookMessage], dict[datetime, Levels]]:
    """What two damaged connections and an undamaged one record, and the exchange's own books, by time."""
    feed = Feed(exchange, seed=str(seed))
    lost, cut = disturbed(Random(seed))
    damaged = [Connection(feed, *numbers) for numbers in zip(lost, cut, strict=True)]
    whole, truth = Connection(feed, set(), set()), {}
    for number in range(_MESSAGES):
        frames = feed.frames()
        for connection in (*damaged, whole):
            connection.receive(number, feed.now, frames)
        bids, asks = feed.book.levels()
        if whole.rows:  # the first message may be empty
            truth[from_micros(whole.rows[-1].timestamp)] = tuple(bids), tuple(asks)
    assert all(each.lost or each.cut for each in damaged)
    return messages(row for each in damaged for row in each.rows), messages(whole.rows), truth


def messages(rows: Iterable[BookUpdate]) -> list[BookMessage]:
    return [
        BookMessage(
            from_micros(row.timestamp), row.kind, row.part, row.parts, row.first_id, row.last_id, row.previous_id,
            row.bids, row.asks, row.price_exponent, row.quantity_exponent, row.connection, row.ordinal, row.verdict,
        )
        for row in rows
    ]  # fmt: skip


def digest(book: Book | None) -> str:
    assert book is not None
    return hashlib.sha256(repr((book.bids, book.asks, book.last_id)).encode()).hexdigest()


@pytest.mark.parametrize("exchange", SHARED)
def test_the_merged_book_of_connections_that_are_never_cut_together_is_the_undamaged_one(exchange: str) -> None:
    assert len(SHARED) == 2
    repaired = 0
    for seed in range(_ROUNDS):
        rows, whole, truth = market(exchange, seed)
        instants = sorted(truth)[1:]
        merged = list(books_at(rows, instants, shared_ids=True))
        assert list(map(digest, merged)) == list(map(digest, books_at(whole, instants)))
        assert all(book and book.verdict is Verdict.VERIFIED for book in merged)
        assert [book and (book.bids, book.asks) for book in merged] == [truth[instant] for instant in instants]
        repaired += sum(book is not None and len(book.connections) > 1 for book in merged)
    assert repaired > _ROUNDS


def test_ids_that_each_connection_has_for_itself_join_nothing() -> None:
    rows, _, truth = market("binance", 3)
    instants = sorted(truth)[1:]
    alone = list(books_at(rows, instants))
    assert all(book is None or len(book.connections) == 1 for book in alone)
