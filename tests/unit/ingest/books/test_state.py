"""The levels of one book, beside a slow and obvious one."""

import random

from k2.ingest.books.state import Level, OrderBook


def obvious(levels: dict[int, int], changes: list[Level]) -> dict[int, int]:
    return {price: quantity for price, quantity in {**levels, **dict(changes)}.items() if quantity}


def test_10_000_changes_leave_what_an_obvious_book_has_and_the_best_prices_are_right():
    rng, book = random.Random(1), OrderBook()
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    for _ in range(2_500):
        changed_bids = [(rng.randint(1, 50), rng.choice([0, 0, rng.randint(1, 9)])) for _ in range(rng.randint(0, 4))]
        changed_asks = [(rng.randint(40, 90), rng.choice([0, 0, rng.randint(1, 9)])) for _ in range(rng.randint(0, 4))]
        if rng.random() < 0.01:
            bids, asks = obvious({}, changed_bids), obvious({}, changed_asks)
            book.replace(changed_bids, changed_asks)
        else:
            bids, asks = obvious(bids, changed_bids), obvious(asks, changed_asks)
            book.apply(changed_bids, changed_asks)
        assert (book.bids, book.asks) == (bids, asks)
        assert book.best_bid == max(bids.items(), default=None)
        assert book.best_ask == min(asks.items(), default=None)
        assert book.crossed == (bool(bids and asks) and max(bids) >= min(asks))
        assert len(book) == len(bids) + len(asks)


def test_the_last_of_two_changes_of_one_level_counts():
    book = OrderBook()
    book.apply([(10, 5), (10, 0), (9, 1)], [(11, 1), (11, 2)])
    assert (book.best_bid, book.best_ask) == ((9, 1), (11, 2))


def test_deletes_of_unknown_levels_are_counted_since_the_last_snapshot():
    book = OrderBook()
    book.apply([(10, 0)], [(11, 0), (12, 1), (12, 0)])
    assert book.unknown_deletes == 2
    book.replace([(10, 1)], [])
    assert book.unknown_deletes == 0


def test_truncation_keeps_the_best_levels():
    book = OrderBook()
    book.apply([(price, 1) for price in range(1, 8)], [(price, 1) for price in range(10, 18)])
    book.truncate(3)
    assert book.top(5) == ([(7, 1), (6, 1), (5, 1)], [(10, 1), (11, 1), (12, 1)])


def test_an_empty_side_has_no_best_price_and_crosses_nothing():
    book = OrderBook()
    book.apply([(10, 1)], [])
    assert (book.best_ask, book.crossed) == (None, False)
    book.apply([(10, 0)], [])
    assert book.best_bid is None
