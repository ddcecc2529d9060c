"""Losses of states, by the verdicts of the records."""

import pytest

from k2.ingest.exchanges.base import NO_ID, Gap, SequencedRecord
from k2.ingest.sequencing.states import StateTracker
from k2.ingest.sequencing.tracker import GapDetected, StateRestored
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.book import BookKind, BookUpdate
from k2.schemas.states import Verdict

PAIR = Pair("BTCUSDT", "BTCUSDT", "BTC", "USDT")
GOOD, UNPROVED, BAD = Verdict.VERIFIED, Verdict.UNVERIFIABLE, Verdict.SUSPECT


def record(time: int, verdict: Verdict = GOOD, connection: str = "a") -> SequencedRecord:
    update = BookUpdate(
        "BTCUSDT", "BINANCE", time, time, BookKind.DELTA, (), (), 0, 0, connection, time, verdict
    )  # fmt: skip
    return SequencedRecord(update, NO_ID, NO_ID)


def gap(since: int, until: int, connection: str = "a") -> Gap:
    return Gap(PAIR, NO_ID, NO_ID, since, until, anchor=connection)


def test_before_the_first_state_nothing_is_lost():
    tracker = StateTracker()
    assert [tracker.observe(PAIR, record(n, BAD)) for n in (1, 2)] == [None, None]
    assert [tracker.observe(PAIR, record(n, verdict)) for n, verdict in ((3, GOOD), (4, UNPROVED))] == [None, None]


def test_a_loss_is_a_gap_from_the_last_record_of_a_state_until_the_next_one():
    tracker = StateTracker()
    tracker.observe(PAIR, record(1))
    assert tracker.observe(PAIR, record(5, BAD)) == GapDetected(gap(1, 5))
    assert tracker.observe(PAIR, record(6, BAD)) is None
    assert tracker.observe(PAIR, record(7)) == StateRestored(gap(1, 5))
    assert tracker.observe(PAIR, record(8)) is None
    assert tracker.observe(PAIR, record(9, BAD)) == GapDetected(gap(8, 9))


def test_a_time_without_a_connection_is_a_gap_that_is_over_with_a_state():
    tracker = StateTracker()
    tracker.observe(PAIR, record(1))
    tracker.on_disconnect(["BTCUSDT", "ETHUSDT"])
    assert tracker.observe(PAIR, record(5, connection="b")) == GapDetected(gap(1, 5), over=True)
    assert tracker.observe(PAIR, record(6, connection="b")) is None


def test_a_time_without_a_connection_lasts_until_the_next_one_has_a_state():
    tracker = StateTracker()
    tracker.observe(PAIR, record(1))
    tracker.on_disconnect(["BTCUSDT"])
    assert tracker.observe(PAIR, record(5, BAD, "b")) == GapDetected(gap(1, 5))
    assert tracker.observe(PAIR, record(9, GOOD, "b")) == StateRestored(gap(1, 5))


def test_a_successor_without_a_state_costs_nothing_while_its_predecessor_has_one():
    tracker = StateTracker()
    tracker.observe(PAIR, record(1))
    assert tracker.observe(PAIR, record(2, BAD, "b")) is None
    assert tracker.observe(PAIR, record(3)) is None
    assert tracker.observe(PAIR, record(4, GOOD, "b")) is None
    tracker.on_disconnect(["BTCUSDT"])
    assert tracker.observe(PAIR, record(5, GOOD, "b")) is None  # the one that goes on


def test_a_predecessor_that_ended_without_a_word_does_not_hide_that_its_successor_has_no_state():
    tracker = StateTracker()
    tracker.observe(PAIR, record(1))
    assert tracker.observe(PAIR, record(4_000_000, BAD, "b")) is None
    assert tracker.observe(PAIR, record(6_000_000, BAD, "b")) == GapDetected(gap(1, 6_000_000))


@pytest.mark.parametrize("count", [1, 2])
def test_gaps_of_an_earlier_process_end_with_the_first_states(count: int):
    tracker = StateTracker()
    for number in range(count):
        tracker.reopen(gap(number, number + 1))
    assert tracker.observe(PAIR, record(8, BAD)) is None
    ended = [tracker.observe(PAIR, record(9 + number)) for number in range(count)]
    assert ended == [StateRestored(gap(number, number + 1)) for number in reversed(range(count))]
    assert tracker.observe(PAIR, record(20)) is None
