"""Quotes compared with rebuilt books: snapshots in parts, lost messages, and the recorded quotes of Binance."""

import os
from typing import Any

import pytest

from k2.jobs.audit.books.rebuilt import RebuiltBook, best_of, compared

UNIT = 10**12


def message(ordinal: int, bids: Any = (), asks: Any = (), **changes: Any) -> dict[str, Any]:
    fields = {
        "kind": "delta", "part": 1, "parts": 1, "first_id": ordinal, "last_id": ordinal, "bids": bids, "asks": asks,
        "price_exponent": -1, "quantity_exponent": 0, "connection": "c1", "ordinal": ordinal, "verdict": "verified",
    }  # fmt: skip
    return fields | changes


def quote(number: int, bid: tuple[int, int] | None, ask: tuple[int, int] | None) -> dict[str, Any]:
    (bid_price, bid_quantity), (ask_price, ask_quantity) = bid or (None, None), ask or (None, None)
    return {
        "sequence": number, "bid_price": bid_price, "bid_quantity": bid_quantity, "ask_price": ask_price,
        "ask_quantity": ask_quantity, "price_exponent": 0, "quantity_exponent": 0,
    }  # fmt: skip


def snapshot(ordinal: int, part: int, parts: int, bids: Any = (), asks: Any = ()) -> dict[str, Any]:
    return message(ordinal, bids, asks, kind="snapshot", part=part, parts=parts, last_id=ordinal)


def test_a_book_exists_from_a_whole_snapshot_until_a_message_is_lost():
    book, exists = RebuiltBook(), []
    messages = [
        message(1, [(50, 1)]), snapshot(2, 1, 2, [(90, 4), (80, 1)]), snapshot(3, 2, 2, (), [(110, 2)]),
        message(4, [(90, 0)], [(100, 3)]), message(5, verdict="suspect"), snapshot(6, 2, 2),
        snapshot(7, 1, 1, [(70, 1)]), message(9),
    ]  # fmt: skip
    for one in messages:
        book.apply(one)
        exists.append(book.exists)
        if one["ordinal"] == 4:
            assert book.best == ((8 * UNIT, UNIT), (10 * UNIT, 3 * UNIT))
    assert exists == [False, False, True, True, False, False, True, False]
    assert book.best == ((7 * UNIT, UNIT), None)


def test_changes_that_came_before_an_older_snapshot_are_applied_to_it_and_those_that_it_contains_are_not():
    book = RebuiltBook()
    for one in (message(1, [(50, 1)]), message(2, [(60, 1)], verdict="suspect"), message(3, [(70, 1)])):
        book.apply(one)
    book.apply({**snapshot(9, 1, 1, [(10, 1)]), "last_id": 1})
    assert (book.exists, book.last_id, sorted(book.bids)) == (True, 3, [UNIT, 6 * UNIT, 7 * UNIT])
    book.apply({**snapshot(10, 1, 1), "last_id": 2})  # behind the state
    assert (book.exists, len(book.bids)) == (True, 3)


def test_a_quote_is_compared_with_the_state_that_it_names_whatever_its_powers_of_ten():
    messages = [snapshot(1, 1, 1, [(90, 4)], [(110, 2)]), message(2, [(95, 1), (90, 0)]), message(3, (), [(110, 0)])]
    right, wrong, other = quote(2, (9, 1), (11, 2)), quote(3, (9, 1), None), quote(7, (9, 1), None)
    pairs = list(compared(messages, {2: [right], 3: [wrong], 7: [other]}))
    assert [pair[0] for pair in pairs] == [right, wrong]
    assert [best_of(one) == best for one, best in pairs] == [False, False]
    assert best_of({**right, "bid_price": 95, "ask_price": 110, "price_exponent": -1}) == pairs[0][1]


@pytest.mark.skipif("K2_CAPTURES" not in os.environ, reason="K2_CAPTURES names no folder of recorded frames")
def test_every_recorded_quote_that_names_a_state_of_the_book_equals_it():
    recorded_books = pytest.importorskip("bench.workloads.recorded_books")
    results = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        quotes: dict[int, list[dict[str, Any]]] = {}
        for one in recorded_books.quotes():
            if one.symbol == symbol:
                quotes.setdefault(one.sequence, []).append(one.fields)
        messages = [
            {**one.fields, "bids": one.bids, "asks": one.asks}
            for one in recorded_books.updates()
            if one.symbol == symbol
        ]
        results += [best_of(one) == best for one, best in compared(messages, quotes)]
    assert results == [True] * 1_141
