"""Where nothing is numbered, each reconnect leaves a window, and only a reconnect does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.exchanges.base import NO_ID, Gap, SequencedRecord
from k2.ingest.sequencing.reconnect_windows import ReconnectWindowTracker
from k2.ingest.sequencing.tracker import Conflict, Coverage, Duplicate, GapDetected, Position


def test_there_are_exactly_as_many_windows_as_reconnects_with_a_trade_after_them(pair, observed):
    @given(st.lists(st.integers(0, 5), max_size=10))
    def check(lives: list[int]) -> None:
        tracker, windows, number, since = ReconnectWindowTracker(), [], 0, 0
        expected = []
        for trades in lives:
            for index in range(trades):
                number += 1
                if index == 0 and number > 1:
                    expected.append((str(since), since * 1000, number * 1000))
                finding = tracker.observe(pair, observed(number, trade_id=str(number), time=number * 1000))
                since = number
                if finding is not None:
                    windows.append(finding.gap)
            tracker.on_disconnect([pair.symbol])
        assert [(gap.anchor, gap.since, gap.until) for gap in windows] == expected
        assert all(gap.is_window and tracker.missing(gap) for gap in windows)

    check()


def test_a_repeated_trade_is_a_duplicate_and_another_price_a_conflict(pair, observed):
    tracker = ReconnectWindowTracker()
    tracker.observe(pair, observed(1, trade_id="a", price=100))
    assert tracker.observe(pair, observed(1, trade_id="a", price=100)) == Duplicate()
    assert tracker.observe(pair, observed(1, trade_id="a", price=200)) == Conflict()


def test_a_repeat_after_a_reconnect_does_not_close_the_window(pair, observed):
    tracker = ReconnectWindowTracker()
    tracker.observe(pair, observed(1, trade_id="a"))
    tracker.on_disconnect([pair.symbol])
    assert tracker.observe(pair, observed(1, trade_id="a")) == Duplicate()
    assert isinstance(tracker.observe(pair, observed(2, trade_id="b")), GapDetected)


def test_the_time_between_two_processes_is_a_window(pair, observed):
    tracker = ReconnectWindowTracker()
    tracker.resume(pair, Position("a", 7))
    assert tracker.observe(pair, observed(1, trade_id="a")) == Duplicate()
    assert tracker.observe(pair, observed(2, trade_id="b", time=9)) == GapDetected(Gap(pair, NO_ID, NO_ID, 7, 9, "a"))
    assert tracker.observe(pair, observed(3, trade_id="c")) is None


def test_nothing_is_missing_where_the_newest_stored_trade_waits(pair, observed):
    tracker = ReconnectWindowTracker()
    tracker.resume(pair, Position("b", 7), ["a", "b", "c"])
    assert [tracker.observe(pair, observed(number, trade_id=name)) for number, name in enumerate("abcd", 1)] == [
        Duplicate(), Duplicate(), None, None
    ]  # fmt: skip
    tracker.resume(pair, Position("x", 7), ["y"])
    assert isinstance(tracker.observe(pair, observed(9, trade_id="y")), GapDetected)


def test_a_trade_from_the_history_counts_once(pair, observed):
    tracker = ReconnectWindowTracker()
    tracker.observe(pair, observed(1, trade_id="a"))
    tracker.on_disconnect([pair.symbol])
    gap = tracker.observe(pair, observed(3, trade_id="c")).gap
    assert tracker.fill(gap, observed(2, trade_id="b"))
    assert not tracker.fill(gap, observed(2, trade_id="b"))
    assert not tracker.fill(gap, observed(3, trade_id="c"))
    assert tracker.close(gap) == ()
    assert tracker.missing(gap) == ()


def window(tracker, pair, observed, *, before=("a", "b"), end=("d", 50_000), received=0):
    for number, name in enumerate(before):
        tracker.observe(pair, observed(1, trade_id=name, time=(number + 1) * 10_000))
    tracker.on_disconnect([pair.symbol])
    return tracker.observe(pair, observed(1, trade_id=end[0], time=end[1], received=received)).gap


def test_a_window_lasts_until_now_if_a_late_trade_ends_it(pair, observed):
    gap = window(ReconnectWindowTracker(), pair, observed, end=("d", 5_000), received=60_000)
    assert (gap.anchor, gap.since, gap.until) == ("b", 20_000, 60_000)


def test_a_window_lasts_until_the_trade_that_ends_it_if_our_clock_was_set_back(pair, observed):
    tracker, hour, second = ReconnectWindowTracker(), 3_600_000_000, 1_000_000
    tracker.observe(pair, observed(1, trade_id="a", time=2 * hour))
    tracker.on_disconnect([pair.symbol])
    gap = tracker.observe(pair, observed(1, trade_id="b", time=2 * hour + second, received=hour + second)).gap
    assert (gap.since, gap.until) == (2 * hour, 2 * hour + second)


def test_any_trade_from_before_a_window_proves_the_overlap_whatever_its_time(pair, observed):
    tracker = ReconnectWindowTracker()
    gap = window(tracker, pair, observed)
    assert tracker.coverage(gap, ["d", "c", "b"]) == Coverage(overlaps=True, reaches=True, complete=True)
    assert tracker.coverage(gap, ["c", "a"]) == Coverage(overlaps=True, reaches=False, complete=True)
    assert tracker.coverage(gap, ["c", "b", "a"]) == Coverage(overlaps=True, reaches=False, complete=True)
    assert tracker.coverage(gap, ["d", "c"]) == Coverage(overlaps=False, reaches=True, complete=True)


def test_what_the_page_of_an_earlier_window_brought_does_not_prove_a_later_one(pair, observed):
    tracker = ReconnectWindowTracker()
    first = window(tracker, pair, observed, before=("a",), end=("c", 30_000))
    tracker.on_disconnect([pair.symbol])
    assert tracker.fill(first, observed(5, trade_id="e"))  # newer than the first window; "d" is not in that page
    second = tracker.observe(pair, observed(6, trade_id="f", time=60_000)).gap
    assert not tracker.coverage(second, ["f", "e"]).overlaps
    assert tracker.coverage(second, ["f", "e", "d", "c"]).overlaps


def test_a_page_that_lacks_what_arrived_is_not_complete(pair, observed):
    tracker = ReconnectWindowTracker()
    gap = window(tracker, pair, observed, before=("a", "x", "b"))
    assert not tracker.coverage(gap, ["d", "b", "a"]).complete
    tracker.fill(gap, observed(1, trade_id="c"))  # by another page: where it belongs is not known
    tracker.observe(pair, observed(1, trade_id="e", time=60_000))
    assert tracker.coverage(gap, ["e", "d", "b"]).complete


def test_of_a_window_of_an_earlier_process_only_the_last_trade_is_known(pair, observed):
    tracker, gap = ReconnectWindowTracker(), Gap(pair, NO_ID, NO_ID, 1, 2, "a")
    tracker.reopen(gap)
    tracker.resume(pair, Position("z", 7))
    assert tracker.coverage(gap, ["b", "a"]) == Coverage(overlaps=True, reaches=False, complete=True)
    assert not tracker.coverage(gap, ["b"]).overlaps


def test_a_window_of_an_earlier_process_stays_open_until_it_is_settled(pair):
    tracker, gap = ReconnectWindowTracker(), Gap(pair, NO_ID, NO_ID, 1, 2, "a")
    tracker.reopen(gap)
    assert tracker.missing(gap) == ((NO_ID, NO_ID),)
    tracker.close(gap)
    assert not tracker.missing(gap)


def test_ids_prove_nothing_here(pair):
    tracker = ReconnectWindowTracker()
    assert tracker.observe_head("BTCUSDT", 10, 0) is None
    assert tracker.skip(pair, 10, 0) is None


def test_the_newest_256_ids_are_remembered(pair, observed):
    tracker = ReconnectWindowTracker()
    for number in range(256):
        tracker.observe(pair, observed(1, trade_id=str(number)))
    assert tracker.observe(pair, observed(1, trade_id="0")) == Duplicate()
    tracker.observe(pair, observed(1, trade_id="256"))
    assert tracker.observe(pair, observed(1, trade_id="1")) == Duplicate()
    assert tracker.observe(pair, observed(1, trade_id="0")) is None


@pytest.fixture
def history(pair, observed):
    """A tracker that received all but some of the trades `a` to `f`, one a second, and those trades, newest first."""

    def build(lost: str, tracker: ReconnectWindowTracker):
        trades = {name: observed(1, trade_id=name, time=(place + 1) * 1_000_000) for place, name in enumerate("abcdef")}
        for name in sorted(trades.keys() - set(lost)):
            tracker.observe(pair, trades[name])
        return [item.record for item in reversed(trades.values())]

    return build


@pytest.mark.parametrize(
    ("lost", "shown", "window"),
    [
        ("", 6, None),
        ("c", 6, ("b", 2, 4)),
        ("bd", 6, ("a", 1, 5)),
        ("cd", 4, ("b", 2, 5)),  # the page begins with them, but older trades arrived
        ("f", 6, None),  # it may be on its way
        ("a", 6, None),  # it was traded before the first that arrived
        ("ab", 5, None),
        ("c", 3, None),  # it is not among the rows any more
    ],
)
def test_a_row_of_the_history_between_trades_that_arrived_was_lost(pair, history, lost, shown, window):
    tracker = ReconnectWindowTracker()
    gap = tracker.find_loss(pair, history(lost, tracker)[:shown])
    assert (gap and (gap.anchor, gap.since // 10**6, gap.until // 10**6)) == window
    assert (gap is not None) == bool(gap and tracker.missing(gap))


def test_a_loss_is_found_once_and_repaired_like_a_window(pair, history):
    tracker = ReconnectWindowTracker()
    rows = history("c", tracker)
    gap = tracker.find_loss(pair, rows)
    assert tracker.find_loss(pair, rows) is None
    assert tracker.coverage(gap, "dcb") == Coverage(overlaps=True, reaches=True, complete=True)
    assert tracker.coverage(gap, "fedc") == Coverage(overlaps=False, reaches=True, complete=True)
    assert tracker.fill(gap, SequencedRecord(rows[3], NO_ID, NO_ID))
    tracker.close(gap)
    assert tracker.find_loss(pair, rows) is None


def test_while_a_reconnect_opens_a_window_nothing_else_does(pair, history):
    tracker = ReconnectWindowTracker()
    rows = history("c", tracker)
    tracker.on_disconnect([pair.symbol])
    assert tracker.find_loss(pair, rows) is None
    assert ReconnectWindowTracker().find_loss(pair, rows) is None


def test_trades_that_are_forgotten_are_not_taken_for_lost(pair, observed):
    tracker = ReconnectWindowTracker()
    items = [observed(1, trade_id=str(number), time=number * 1000) for number in range(1, 400)]
    for item in items:
        tracker.observe(pair, item)
    rows = [item.record for item in reversed(items)]
    assert tracker.find_loss(pair, rows[220:280]) is None
