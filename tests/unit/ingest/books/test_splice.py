"""A book spliced from a snapshot and numbered changes: nothing is applied twice, and no gap goes unnoticed."""

import json
import os
import random
from pathlib import Path

import pytest

from k2.ingest.books.records import BookRecords
from k2.ingest.books.splice import MOST_WAITING, Change, Outcome, SplicedBook
from k2.ingest.books.state import OrderBook
from k2.ingest.simulator.capture import frames
from k2.schemas.values import scaled


def change(first: int, last: int) -> Change:
    """A change whose levels say which ids it has."""
    return Change(first, last, [(1000 - last % 7, last)], [(2000 + last % 5, last)])


def spliced(last_id: int = 10) -> SplicedBook:
    book = SplicedBook()
    assert book.snapshot(last_id, [(100, 1)], [(2500, 1)])
    return book


def test_changes_wait_for_the_snapshot_and_those_that_it_contains_are_dropped():
    book = SplicedBook()
    assert [book.change(change(n, n)) for n in range(8, 14)] == [Outcome.WAITING] * 6
    assert book.waiting == 6
    assert book.snapshot(10, [], [])
    assert (book.last_id, book.waiting) == (13, 0)
    assert set(book.book.bids.values()) == {11, 12, 13}


def test_a_change_that_the_snapshot_contains_in_part_joins_it():
    book = SplicedBook()
    book.change(change(5, 12))
    assert book.snapshot(10, [], [])
    assert book.last_id == 12


def test_a_snapshot_has_the_time_of_the_change_that_it_was_taken_after_and_of_those_that_follow():
    book = SplicedBook()
    for number in (9, 10, 11):
        book.change(Change(number, number, [], [], time=number * 100))
    assert book.snapshot(11, [], [])
    assert book.time == 1_100
    for last_id, time in ((7, 1_100), (10, 1_100), (12, None)):
        book.lose()
        book.change(Change(8, 9, [], [], time=900))
        book.change(Change(10, 11, [], [], time=1_100))
        assert book.snapshot(last_id, [], [])
        assert book.time == time


def test_a_snapshot_older_than_the_first_change_does_not_join():
    book = SplicedBook()
    book.change(change(12, 12))
    assert not book.snapshot(10, [], [])
    assert book.last_id is None
    assert book.snapshot(11, [], [])  # the change still waits
    assert book.last_id == 12


def test_a_gap_among_the_waiting_changes_is_no_part_of_the_book():
    book = SplicedBook()
    book.change(change(5, 6))
    book.change(change(9, 10))
    assert not book.snapshot(6, [], [])
    assert book.snapshot(8, [], [])
    assert book.last_id == 10


@pytest.mark.parametrize("first", [12, 13, 1000])
def test_a_gap_loses_the_book_until_a_snapshot_joins_what_came_since(first: int):
    book = spliced()
    assert book.change(change(first, first + 1)) is Outcome.LOST
    assert book.last_id is None
    assert book.change(change(first + 2, first + 2)) is Outcome.WAITING
    assert not book.snapshot(first - 2, [], [])
    assert book.snapshot(first - 1, [], [])
    assert book.last_id == first + 2


def test_a_change_that_comes_again_is_stale_and_changes_nothing():
    book = spliced()
    book.change(change(11, 12))
    before = dict(book.book.bids)
    assert book.change(change(11, 12)) is Outcome.STALE
    assert book.change(change(12, 12)) is Outcome.STALE
    assert book.book.bids == before
    assert book.change(change(12, 13)) is Outcome.APPLIED  # overlaps, and brings 13


def test_a_crossed_book_is_lost():
    book = spliced()
    assert book.change(Change(11, 11, [(3000, 1)], [])) is Outcome.LOST
    assert not SplicedBook().snapshot(10, [(5, 1)], [(5, 1)])


def test_a_snapshot_behind_the_state_changes_nothing_and_one_ahead_replaces_it():
    book = spliced()
    book.change(change(11, 15))
    assert book.snapshot(12, [], [])
    assert book.last_id == 15
    assert book.snapshot(20, [(7, 7)], [])
    assert (book.last_id, book.book.bids) == (20, {7: 7})
    assert book.change(change(16, 18)) is Outcome.STALE


def test_memory_is_bounded_while_no_snapshot_comes():
    book = SplicedBook()
    for n in range(1, MOST_WAITING + 101):
        book.change(change(n, n))
    assert not book.snapshot(50, [], [])  # what would join it is forgotten
    assert book.snapshot(MOST_WAITING, [], [])
    assert book.last_id == MOST_WAITING + 100


@pytest.mark.parametrize("seed", range(200))
def test_after_any_damage_no_applied_change_leaves_a_wrong_book(seed: int):
    """Changes are lost, doubled and reordered; snapshots come late. What is called applied equals the truth."""
    rng = random.Random(seed)
    truth, book, states, stream, number = OrderBook(), SplicedBook(), {}, [], 0
    for _ in range(300):
        first = number + 1
        number += rng.randint(1, 4)
        levels = [
            [(rng.randint(low, low + 9), rng.choice([0, rng.randint(1, 99)])) for _ in range(number - first + 1)]
            for low in (10, 30)
        ]
        truth.apply(*levels)
        states[number] = dict(truth.bids), dict(truth.asks)
        stream.append(Change(first, number, *levels))
    damaged = [item for item in stream if rng.random() > 0.02]
    for place in range(len(damaged) - 1):
        if rng.random() < 0.02:
            damaged[place], damaged[place + 1] = damaged[place + 1], damaged[place]
        if rng.random() < 0.02:
            damaged.insert(place, damaged[place])
    lagging = sorted(states)
    applied = 0
    for place, item in enumerate(damaged):
        outcome = book.change(item)
        if outcome is Outcome.APPLIED:
            applied += 1
            assert (book.book.bids, book.book.asks) == states[item.last_id]
        if book.last_id is None and rng.random() < 0.2:
            at = lagging[max(0, min(len(lagging) - 1, place - rng.randint(-3, 6)))]
            bids, asks = states[at]
            if book.snapshot(at, list(bids.items()), list(asks.items())):
                assert (book.book.bids, book.book.asks) == states[book.last_id]
    assert applied > 50


@pytest.mark.skipif("K2_CAPTURES" not in os.environ, reason="K2_CAPTURES names no folder of recorded frames")
def test_every_recorded_best_price_whose_id_ends_a_change_equals_the_spliced_books():
    compared, ended = 0, 0
    for name in ("binance_spot_btcusdt.gz", "binance_spot_ethusdt.gz"):
        records, book, best, tops = BookRecords("BINANCE"), SplicedBook(), {}, []
        for _, frame in frames(Path(os.environ["K2_CAPTURES"]) / name):
            message = json.loads(frame)
            if "lastUpdateId" in message:
                levels = records.message("X", message["bids"], message["asks"])
                assert book.snapshot(message["lastUpdateId"], levels.scaled_bids, levels.scaled_asks)
            elif "@depth" in message["stream"]:
                data = message["data"]
                levels = records.message("X", data["b"], data["a"])
                outcome = book.change(Change(data["U"], data["u"], levels.scaled_bids, levels.scaled_asks))
                assert outcome in {Outcome.APPLIED, Outcome.WAITING, Outcome.STALE}
                best[data["u"]] = book.book.best_bid, book.book.best_ask
            elif "@bookTicker" in message["stream"]:
                tops.append(message["data"])
        ended += sum(top["u"] in best for top in tops)
        for top in tops:
            if (levels_ := best.get(top["u"])) and None not in levels_:
                compared += 1
                assert levels_ == ((scaled(top["b"]), scaled(top["B"])), (scaled(top["a"]), scaled(top["A"])))
    assert compared == ended == 1_141
