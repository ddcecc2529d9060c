"""Books whose first state comes in band: what joins is applied, what does not loses the book."""

import random

import pytest

from k2.ingest.books.splice import Outcome
from k2.ingest.books.state import OrderBook
from k2.ingest.books.stream import StreamedBook


def opened(last_id: int = 10) -> StreamedBook:
    book = StreamedBook()
    assert book.snapshot([(10, 1)], [(20, 1)], last_id) is Outcome.APPLIED
    return book


def test_a_change_before_the_snapshot_waits_for_it():
    book = StreamedBook()
    assert book.change([(10, 1)], [], 9, 10) is Outcome.WAITING
    assert not book.exists
    assert len(book.book) == 0


@pytest.mark.parametrize(("previous", "last"), [(10, 17), (10, 11), (10, 3), (10, 10)])
def test_a_change_that_names_the_state_before_it_is_applied_whatever_its_own_number(previous: int, last: int):
    book = opened()
    assert book.change([(11, 2)], [], previous, last) is Outcome.APPLIED
    assert book.last_id == last
    assert book.book.best_bid == (11, 2)


@pytest.mark.parametrize("previous", [9, 11, 0])
def test_a_change_that_does_not_join_loses_the_book_until_the_next_snapshot(previous: int):
    book = opened()
    assert book.change([(11, 2)], [], previous, 12) is Outcome.LOST
    assert book.book.best_bid == (10, 1)  # it is not applied
    assert book.change([(11, 2)], [], 12, 13) is Outcome.WAITING
    assert book.snapshot([(12, 1)], [], 13) is Outcome.APPLIED
    assert book.change([(12, 2)], [], 13, 14) is Outcome.APPLIED


def test_without_ids_every_change_after_a_snapshot_is_applied():
    book = StreamedBook()
    book.snapshot([(10, 1)], [(20, 1)])
    assert book.change([(11, 1)], []) is Outcome.APPLIED
    assert book.change([], [(19, 1)]) is Outcome.APPLIED
    assert (book.book.best_bid, book.book.best_ask) == ((11, 1), (19, 1))


def test_a_crossed_book_is_lost():
    book = opened()
    assert book.change([(20, 1)], [], 10, 11) is Outcome.LOST
    assert not book.exists
    assert StreamedBook().snapshot([(5, 1)], [(5, 1)]) is Outcome.LOST


def test_within_one_message_the_book_may_cross():
    assert opened().change([(20, 1)], [(20, 0), (21, 1)], 10, 11) is Outcome.APPLIED


def test_the_book_is_truncated_after_each_message_and_not_after_each_level():
    book = StreamedBook(depth=2)
    book.snapshot([(10, 1), (9, 1), (8, 1)], [(20, 1)])
    assert book.book.top(5) == ([(10, 1), (9, 1)], [(20, 1)])
    # The new best level pushes 9 out, unless 10 is deleted by the same message.
    book.change([(11, 1), (10, 0)], [])
    assert book.book.top(5) == ([(11, 1), (9, 1)], [(20, 1)])


@pytest.mark.parametrize("seed", range(100))
def test_after_any_loss_or_exchange_of_messages_no_applied_change_leaves_a_wrong_book(seed: int):
    rng = random.Random(seed)
    truth, states, stream, number = OrderBook(), {}, [], 1
    for _ in range(300):
        previous, number = number, number + rng.randint(1, 90)
        bids = [(rng.randint(10, 19), rng.choice([0, rng.randint(1, 99)])) for _ in range(rng.randint(0, 3))]
        asks = [(rng.randint(30, 39), rng.choice([0, rng.randint(1, 99)])) for _ in range(rng.randint(0, 3))]
        truth.apply(bids, asks)
        states[number] = dict(truth.bids), dict(truth.asks)
        stream.append((bids, asks, previous, number))
    damaged = [item for item in stream if rng.random() > 0.02]
    for place in range(len(damaged) - 1):
        if rng.random() < 0.02:
            damaged[place], damaged[place + 1] = damaged[place + 1], damaged[place]
    book, applied = StreamedBook(), 0
    book.snapshot([], [], 1)
    for item in damaged:
        if not book.exists and rng.random() < 0.3:
            bids, asks = states.get(item[2], ({}, {}))
            book.snapshot(list(bids.items()), list(asks.items()), item[2])
        if book.change(*item) is Outcome.APPLIED:
            applied += 1
            assert (book.book.bids, book.book.asks) == states[item[3]]
    assert applied > 100
