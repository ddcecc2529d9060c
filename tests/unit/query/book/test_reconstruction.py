"""Books at an instant equal the exchange's own, or are suspect."""

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2.query.book import rows as book_rows
from k2.query.book.reconstruction import Book, BookMessage, InexactLevel, books_at
from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from tests.unit.query.book.exchange import STEP, Exchange
from tests.unit.query.conftest import NOON

_COUNT = 60
seeded = settings(max_examples=100, derandomize=True, deadline=None, database=None)
seeds = st.integers(0, 2**32)


def instants(rng: Random) -> list[datetime]:
    return sorted(NOON + timedelta(seconds=rng.uniform(0, _COUNT / 10 + 1)) for _ in range(20))


def levels(book: Book | None) -> object:
    return book and (book.bids, book.asks)


def picked(rng: Random, count: int) -> set[int]:
    return set(rng.sample(range(1, _COUNT + 1), count))


@seeded
@given(seeds, st.booleans(), st.booleans())
def test_a_connection_without_a_loss_gives_the_exchange_s_book(seed: int, linked: bool, ids: bool) -> None:
    rng = Random(seed)
    exchange = Exchange(rng, _COUNT, linked)
    rows = list(exchange.rows("a", {0} | picked(rng, 3), (), parts=rng.randint(1, 3), ids=ids))
    rng.shuffle(rows)
    times = instants(rng)
    for instant, book in zip(times, books_at(rows, times), strict=True):
        assert levels(book) == exchange.truth(instant)
        assert book is not None
        assert book.verdict is (Verdict.SUSPECT if _crossed(book) else Verdict.VERIFIED)


@seeded
@given(seeds, st.booleans())
def test_two_connections_whose_losses_do_not_overlap_give_the_undamaged_book(seed: int, linked: bool) -> None:
    rng = Random(seed)
    exchange = Exchange(rng, _COUNT, linked)
    lost = picked(rng, 30)
    of_first = set(rng.sample(sorted(lost), 15))
    rows = [
        *exchange.rows("a", {0} | picked(rng, 2), of_first),
        *exchange.rows("b", {0} | picked(rng, 2), lost - of_first, parts=1),
    ]
    times = instants(rng)
    undamaged = books_at(exchange.rows("c", {0}, ()), times)
    for book, whole in zip(books_at(rows, times, shared_ids=True), undamaged, strict=True):
        assert levels(book) == levels(whole)
        assert (book and book.verdict) == (whole and whole.verdict)


@seeded
@given(seeds, st.booleans(), st.integers(1, 3))
def test_whatever_is_lost_no_wrong_book_is_verified(seed: int, linked: bool, connections: int) -> None:
    rng = Random(seed)
    exchange = Exchange(rng, _COUNT, linked)
    rows: list[BookMessage] = []
    for name in "abc"[:connections]:
        own = list(exchange.rows(name, picked(rng, 4), picked(rng, rng.randint(0, 25)), parts=rng.randint(1, 2)))
        rows += [row for row in own if rng.random() < 0.97]  # also losses that no verdict speaks of
    times = instants(rng)
    for instant, book in zip(times, books_at(rows, times, shared_ids=rng.random() < 0.8), strict=True):
        if book is not None and book.verdict is Verdict.VERIFIED:
            number = exchange.ids.index(book.last_id or 0)  # nothing says that more was sent
            assert NOON + number * STEP <= instant
            assert levels(book) == exchange.truth(NOON + number * STEP)


@seeded
@given(seeds, st.integers(1, 2), st.booleans())
def test_the_rows_that_books_need_give_the_same_books_as_all_rows(seed: int, connections: int, ids: bool) -> None:
    rng = Random(seed)
    exchange = Exchange(rng, _COUNT)
    stored: list[BookMessage] = []
    for name in "ab"[:connections]:
        own = exchange.rows(name, picked(rng, 6), picked(rng, rng.randint(0, 9)), parts=rng.randint(1, 3), ids=ids)
        stored += [row for row in own if rng.random() < 0.95]
    late = timedelta(seconds=rng.uniform(0, 0.3))  # a snapshot may have a later time than the messages after it
    stored = [replace(row, time=row.time + late) if row.kind is BookKind.SNAPSHOT else row for row in stored]
    rng.shuffle(stored)
    times = sorted(NOON + timedelta(seconds=rng.uniform(0, _COUNT / 10 + 1)) for _ in range(rng.randint(1, 4)))
    table = pa.Table.from_pylist([_as_row(message) for message in stored], schema=_ROWS)
    first, last = book_rows.ordinals(table, times[0], times[-1]) or (0, 2**63)
    needed = [message for message in stored if first <= message.ordinal <= last]
    assert list(books_at(needed, times)) == list(books_at(stored, times))


def test_rows_before_the_last_whole_snapshot_and_after_the_last_instant_are_not_needed() -> None:
    stored = list(Exchange(Random(1), _COUNT).rows("a", {0, 30, 50}, ()))
    table = pa.Table.from_pylist([_as_row(message) for message in stored], schema=_ROWS)
    snapshot = next(row.ordinal for row in stored if row.time == NOON + 30 * STEP and row.kind is BookKind.SNAPSHOT)
    assert book_rows.ordinals(table, NOON + 40 * STEP, NOON + 45 * STEP) == (snapshot, snapshot + 16)
    assert book_rows.ordinals(table, NOON - STEP, NOON - STEP) is None


_LEVEL = pa.list_(pa.struct([("price", pa.int64()), ("quantity", pa.int64())]))
_ROWS = pa.schema(
    [
        *((name, pa.int64()) for name in ("part", "parts", "first_id", "last_id", "previous_id", "ordinal")),
        *((name, pa.int64()) for name in ("price_exponent", "quantity_exponent")),
        *((name, pa.string()) for name in ("connection", "kind", "verdict")),
        ("time", pa.timestamp("us", "UTC")), ("bids", _LEVEL), ("asks", _LEVEL),
    ]
)  # fmt: skip


def _as_row(message: BookMessage) -> dict[str, Any]:
    """Return a message as a row of Gold, with its time."""
    sides = {
        side: [{"price": price, "quantity": quantity} for price, quantity in getattr(message, side)]
        for side in ("bids", "asks")
    }
    return asdict(message) | sides | {"kind": message.kind.value, "verdict": message.verdict.value}


def test_a_snapshot_counts_only_when_whole(rows: list[BookMessage]) -> None:
    whole, first_part = rows[:2], rows[0]
    assert list(books_at([first_part], [NOON])) == [None]
    assert next(books_at(whole, [NOON - STEP, NOON])) is None
    later = [replace(row, time=NOON + 5 * STEP, ordinal=row.ordinal + 100) for row in whole]
    (book,) = books_at([*rows, later[0], replace(rows[-1], ordinal=200, time=NOON + 6 * STEP)], [NOON + 9 * STEP])
    assert book is not None
    assert book.snapshot_time == NOON
    assert book.verdict is Verdict.SUSPECT


@pytest.mark.parametrize("verdict", [Verdict.UNVERIFIABLE, Verdict.SUSPECT])
def test_the_verdict_is_the_worst_of_what_the_book_stands_on(rows: list[BookMessage], verdict: Verdict) -> None:
    rows[3] = replace(rows[3], verdict=verdict)
    before, after = books_at(rows, [rows[2].time, rows[-1].time])
    assert before is not None
    assert after is not None
    assert (before.verdict, after.verdict) == (Verdict.VERIFIED, verdict)


def test_ids_that_begin_again_are_no_loss_where_messages_name_their_predecessor() -> None:
    exchange = Exchange(Random(1), 5, linked=True)
    exchange.ids[3:] = [7, 9, 12]
    rows = [*exchange.rows("a", {0}, {4}), *exchange.rows("b", {0}, {2})]
    (book,) = books_at(rows, [NOON + 5 * STEP], shared_ids=True)
    assert levels(book) == exchange.truth(NOON + 5 * STEP)


def test_the_depth_is_cut_at_the_output_and_finer_levels_than_the_scale_are_refused(rows: list[BookMessage]) -> None:
    (book,) = books_at(rows, [NOON])
    assert book is not None
    assert book.top(2).bids == book.bids[:2]
    assert book.top(None) is book
    with pytest.raises(InexactLevel):
        list(books_at([replace(row, price_exponent=-14) for row in rows], [NOON]))


@pytest.fixture
def rows() -> list[BookMessage]:
    """A snapshot of two parts, and three deltas."""
    result = list(Exchange(Random(3), 3).rows("a", {0}, ()))
    assert [row.kind for row in result] == [BookKind.SNAPSHOT] * 2 + [BookKind.DELTA] * 3
    return result


def _crossed(book: Book) -> bool:
    return bool(book.bids and book.asks and book.bids[0][0] >= book.asks[0][0])
