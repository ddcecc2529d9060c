"""The books that a client keeps of a stream are the exchange's."""

from datetime import timedelta
from random import Random

import pytest

from k2.query.book.reconstruction import BookMessage
from k2.query.live import record_json
from k2.query.live.books import LiveBooks
from k2.schemas.channels import BOOK
from k2.schemas.states import Verdict
from tests.unit.query.book.exchange import STEP, Exchange
from tests.unit.query.conftest import NOON
from tests.unit.query.live.test_opening import opened, row, states_of

KEY = ("BINANCE", "BTCUSDT")


def add(books: LiveBooks, messages: list[BookMessage]) -> None:
    for message in messages:
        books.add(record_json.fields(BOOK, row(message)))


@pytest.mark.parametrize("seed", range(10))
def test_the_book_after_any_event_is_the_exchange_s(seed: int):
    exchange = Exchange(Random(seed), 12)
    messages = list(exchange.rows("a", {0}, (), ids=seed % 2 > 0))
    books = LiveBooks()
    for event in opened(states_of(messages[:5]), messages[3:]):
        if not hasattr(event, "row"):
            break
        books.add(record_json.fields(BOOK, event.row))
        book = books.books()[KEY]
        assert (book.bids, book.asks) == exchange.truth(book.time)
    assert book.time == NOON + 12 * STEP
    assert book.verdict is Verdict.VERIFIED


def test_the_verified_book_is_shown_until_its_connection_ends():
    exchange = Exchange(Random(2), 700)
    good, bad = list(exchange.rows("a", {0}, ())), list(exchange.rows("b", {0}, {5}))
    books = LiveBooks()
    add(books, good[:50] + bad[:60])
    assert books.books()[KEY].connections == ("a",)
    add(books, bad[60:])
    assert (books.books()[KEY].connections, books.books()[KEY].verdict) == (("b",), Verdict.SUSPECT)
    assert books.books()[KEY].time - good[49].time > timedelta(seconds=30)


def test_there_is_no_book_before_a_whole_snapshot_and_repeated_messages_change_nothing():
    messages = list(Exchange(Random(3), 9).rows("a", {0}, ()))
    books = LiveBooks()
    add(books, messages[:1])
    assert books.books() == {}
    add(books, messages[1:])
    book = books.books()[KEY]
    add(books, messages[:7])
    assert books.books()[KEY] == book
