"""Ids: whatever is dropped, repeated or late, exactly the missing ones are known."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.exchanges.base import NO_ID, Gap
from k2.ingest.sequencing.ids import SequenceTracker
from k2.ingest.sequencing.tracker import (
    Conflict,
    Duplicate,
    GapDetected,
    GapFilled,
    Position,
    SequenceReset,
    Superseded,
    Suspended,
)
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES

IDS = st.lists(st.integers(1001, 1080), unique=True, max_size=80)


def missing_ids(gaps: list) -> list[int]:
    return [number for gap in gaps for number in range(gap.first_id, gap.last_id + 1)]


def test_any_dropped_ids_are_exactly_the_gaps(pair, observed):
    @given(st.sets(st.integers(1001, 1079)))
    def check(dropped: set[int]) -> None:
        tracker, gaps = SequenceTracker(), []
        for number in range(1000, 1081):
            if number not in dropped:
                finding = tracker.observe(pair, observed(number))
                if isinstance(finding, GapDetected):
                    gaps.append(finding.gap)
                else:
                    assert finding is None
        assert missing_ids(gaps) == sorted(dropped)

    check()


def test_any_order_of_arrival_accounts_for_every_id(pair, observed):
    """Ids in any order and often: what is still missing in the end is what never came."""

    @given(IDS.flatmap(st.permutations), st.lists(st.integers(0, 79), max_size=20))
    def check(order: list[int], repeats: list[int]) -> None:
        tracker, open_gaps = SequenceTracker(), {}
        tracker.observe(pair, observed(1000))
        arrivals = list(order) + [order[index % len(order)] for index in repeats if order]
        duplicates = 0
        for number in arrivals:
            match tracker.observe(pair, observed(number)):
                case GapDetected(gap):
                    open_gaps[gap] = gap
                case GapFilled(closed):
                    for gap in closed:
                        del open_gaps[gap]
                case Duplicate():
                    duplicates += 1
                case other:
                    assert other is None
        left = [n for gap in open_gaps for first, last in tracker.missing(gap) for n in range(first, last + 1)]
        newest = max(order, default=1000)
        assert sorted(left) == sorted(set(range(1001, newest + 1)) - set(order))
        assert duplicates == sum(count - 1 for count in Counter(arrivals).values())

    check()


def test_aggregates_cover_every_id_they_stand_for(pair, observed):
    @given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30))
    def check(runs: list[tuple[int, bool]]) -> None:
        tracker, last, gaps, dropped = SequenceTracker(), 1000, [], []
        tracker.observe(pair, observed(last))
        for size, expected in [*runs, (1, True)]:
            first, last = last + 1, last + size
            if not expected:
                dropped += range(first, last + 1)
                continue
            finding = tracker.observe(pair, observed(last, first=first))
            if finding:
                gaps.append(finding.gap)
        assert missing_ids(gaps) == dropped

    check()


def test_an_aggregate_that_repeats_ids_leaves_no_gap(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, observed(10))
    assert tracker.observe(pair, observed(12, first=9)) is None
    assert tracker.observe(pair, observed(13)) is None


@pytest.mark.parametrize(
    ("first", "last", "missing"),
    [(9, 12, ((13, 14),)), (13, 16, ((11, 12),)), (12, 13, ((11, 11), (14, 14))), (9, 16, ())],
)
def test_an_aggregate_fills_the_ids_that_it_shares_with_a_gap(pair, observed, first, last, missing):
    tracker, gap = SequenceTracker(), Gap(pair, 11, 14, 0, 1)
    tracker.reopen(gap)
    assert tracker.fill(gap, observed(last, first=first))
    assert tracker.missing(gap) == missing


def test_a_gap_says_between_which_times_it_lies(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, observed(10, time=500))
    finding = tracker.observe(pair, observed(15, time=900))
    assert finding == GapDetected(Gap(pair, 11, 14, 500, 900))


def test_a_repeat_of_fifty_is_fifty_duplicates(pair, observed):
    tracker = SequenceTracker()
    for number in range(1, 201):
        tracker.observe(pair, observed(number))
    assert {tracker.observe(pair, observed(number)) for number in range(151, 201)} == {Duplicate()}
    assert tracker.observe(pair, observed(201)) is None


@pytest.mark.parametrize("prices", [(100, 101), (101, 100)])
def test_an_id_with_another_price_is_a_conflict_and_the_first_stays(pair, observed, prices):
    tracker = SequenceTracker()
    first, other = prices
    tracker.observe(pair, observed(1, price=first))
    assert tracker.observe(pair, observed(1, price=other)) == Conflict()
    assert tracker.observe(pair, observed(1, price=first)) == Duplicate()


@pytest.mark.parametrize(
    ("first", "second", "finding"),
    [(5_000_123, 5_000_000, Duplicate()), (5_000_000, 5_000_999, Duplicate()), (5_000_000, 5_001_000, Conflict())],
)
def test_times_are_compared_in_milliseconds(pair, observed, first, second, finding):
    tracker = SequenceTracker()
    tracker.observe(pair, observed(1, time=first))
    assert tracker.observe(pair, observed(1, time=second)) == finding


def test_the_content_of_the_newest_256_ids_is_compared_and_of_at_most_twice_as_many(pair, observed):
    tracker = SequenceTracker()
    for number in range(1, 513):
        tracker.observe(pair, observed(number))
    assert tracker.observe(pair, observed(1, price=101)) == Conflict()
    tracker.observe(pair, observed(513))
    assert tracker.observe(pair, observed(256, price=101)) == Duplicate()
    assert tracker.observe(pair, observed(257, price=101)) == Conflict()


def test_a_late_trade_that_completes_a_gap_closes_it(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, observed(1))
    gap = tracker.observe(pair, observed(4)).gap
    assert tracker.observe(pair, observed(3)) == GapFilled(())
    assert tracker.missing(gap) == ((2, 2),)
    assert tracker.observe(pair, observed(2)) == GapFilled((gap,))
    assert tracker.missing(gap) == ()


def test_a_gap_from_id_0_on_is_filled_by_each_of_its_ids(pair, observed):
    tracker, gap = SequenceTracker(), Gap(pair, 0, 4, 0, 9000)
    tracker.resume(pair, Position("5", 9000))
    tracker.reopen(gap)
    assert tracker.missing(gap) == ((0, 4),)
    assert tracker.observe(pair, observed(0, time=1)) == GapFilled(())
    assert all(tracker.fill(gap, observed(number)) for number in (1, 2, 3))
    assert tracker.observe(pair, observed(4, time=5)) == GapFilled((gap,))


def test_a_symbol_that_another_process_carried_meanwhile_goes_on_after_what_is_stored(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, observed(1, time=1))
    gap = tracker.observe(pair, observed(5, time=2)).gap
    tracker.resume(pair, Position("9", 3))
    assert tracker.observe(pair, observed(8, time=3)) == Duplicate()
    assert tracker.observe(pair, observed(10, time=4)) is None
    assert tracker.missing(gap) == ((2, 4),)
    tracker.resume(pair, Position("7", 3))  # what this process sent is not stored yet
    assert tracker.observe(pair, observed(11, time=5)) is None


def test_a_first_trade_has_id_0(pair, observed):
    tracker = SequenceTracker()
    assert tracker.observe(pair, observed(0)) is None
    assert tracker.observe(pair, observed(0)) == Duplicate()
    assert tracker.observe(pair, observed(1)) is None


def test_a_feed_goes_on_after_id_0(pair, observed):
    tracker = SequenceTracker()
    tracker.resume(pair, Position("0", 5))
    assert tracker.observe_head("BTCUSDT", 0, 9) is None
    assert tracker.observe_head("BTCUSDT", NO_ID, 9) is None
    assert tracker.observe(pair, observed(3, time=9)) == GapDetected(Gap(pair, 1, 2, 5, 9))


def test_after_a_protocol_without_ids_there_is_nothing_to_go_on_from(pair, observed):
    tracker = SequenceTracker()
    tracker.resume(pair, Position("KRAKEN-1-a", 5))
    assert tracker.observe(pair, observed(7)) is None


OLD = 10**9  # the time of the last trade of the old listing


def relisted(pair, observed, last: int = 1_000_000) -> SequenceTracker:
    """A tracker whose symbol's last id is `last`, at the time `OLD`."""
    tracker = SequenceTracker()
    tracker.observe(pair, observed(last, time=OLD))
    return tracker


@pytest.mark.parametrize("first", [0, 1])
def test_three_low_ids_with_later_times_begin_the_next_listing(pair, observed, first):
    tracker = relisted(pair, observed)
    items = [observed(first + index, time=OLD + 1 + index) for index in range(4)]
    findings = [tracker.observe(pair, item) for item in items[:3]]
    assert findings == [Suspended(begins=True), Suspended(begins=False), SequenceReset(1_000_000, 2)]
    assert dict(tracker.listings) == {"BTCUSDT": 2}
    assert [tracker.observe(pair, item) for item in items] == [None] * 4
    gap = tracker.observe(pair, observed(first + 6, time=OLD + 9)).gap
    assert gap == Gap(pair, first + 4, first + 5, OLD + 4, OLD + 9, listing=2)


def test_the_first_ids_of_a_listing_that_were_not_seen_are_a_gap(pair, observed):
    tracker = relisted(pair, observed)
    items = [observed(number, time=OLD + number) for number in (4, 5, 6)]
    assert [type(tracker.observe(pair, item)) for item in items] == [Suspended, Suspended, SequenceReset]
    assert tracker.observe(pair, items[0]) == GapDetected(Gap(pair, 1, 3, OLD, OLD + 4, listing=2))
    assert [tracker.observe(pair, item) for item in items[1:]] == [None, None]


def test_a_single_old_id_is_no_new_listing_however_often_it_comes(pair, observed):
    tracker = relisted(pair, observed)
    assert tracker.observe(pair, observed(7, time=OLD + 5)) == Suspended(begins=True)
    assert {tracker.observe(pair, observed(7, time=OLD + 5)) for _ in range(5)} == {Suspended(begins=False)}
    assert tracker.observe(pair, observed(1_000_001, time=OLD + 6)) is None
    assert tracker.settle(pair, observed(7, time=OLD + 5)) == Duplicate()
    assert tracker.observe(pair, observed(8, time=OLD + 7)) == Suspended(begins=True)
    assert tracker.listings == {}


@pytest.mark.parametrize("times", [(-3, -2, -1), (0, 0, 0), (1, 2, 0)])
def test_low_ids_whose_times_do_not_rise_are_no_new_listing(pair, observed, times):
    tracker = relisted(pair, observed)
    items = [observed(number, time=OLD + at) for number, at in zip((1, 2, 3), times, strict=True)]
    assert SequenceReset not in {type(tracker.observe(pair, item)) for item in items}
    assert tracker.listings == {}


def test_low_ids_that_do_not_follow_on_each_other_prove_nothing(pair, observed):
    tracker = relisted(pair, observed)
    items = [observed(number, time=OLD + number) for number in (1, 3, 5, 7, 8)]
    assert [tracker.observe(pair, item) for item in items] == [Suspended(begins=True), *[Suspended(begins=False)] * 4]
    assert tracker.observe(pair, observed(9, time=OLD + 9)) == SequenceReset(1_000_000, 2)
    missing = [tracker.observe(pair, item) for item in (*items, observed(9, time=OLD + 9))]
    assert missing_ids([finding.gap for finding in missing if finding]) == [2, 4, 6]


def test_ids_that_fall_again_begin_another_run(pair, observed):
    tracker = relisted(pair, observed)
    assert tracker.observe(pair, observed(9, time=OLD + 1)) == Suspended(begins=True)
    assert tracker.observe(pair, observed(1, time=OLD + 2)) == Suspended(begins=True)
    assert tracker.observe(pair, observed(2, time=OLD + 3)) == Suspended(begins=False)
    assert tracker.observe(pair, observed(3, time=OLD + 4)) == SequenceReset(1_000_000, 2)


def test_a_dead_letter_among_the_first_ids_does_not_delay_the_proof(pair, observed):
    tracker = relisted(pair, observed)
    for number in (1, 2):
        tracker.observe(pair, observed(number, time=OLD + number))
    assert tracker.skip(pair, 3, OLD + 3) == Suspended(begins=False)
    assert tracker.observe(pair, observed(4, time=OLD + 4)) == SequenceReset(1_000_000, 2)


def test_ids_that_both_listings_have_are_neither_duplicates_nor_conflicts(pair, observed):
    """A listing of ten trades, and the next one: every id is known, with the same or with another price."""
    tracker = SequenceTracker()
    for number in range(10):
        tracker.observe(pair, observed(number, time=OLD + number))
    items = [observed(number, price=100 + number % 2, time=2 * OLD + number) for number in range(10)]
    assert [type(tracker.observe(pair, item)) for item in items[:3]] == [Suspended, Suspended, SequenceReset]
    assert [tracker.observe(pair, item) for item in items] == [None] * 10
    assert {tracker.observe(pair, item) for item in items} == {Duplicate()}


def test_a_suspended_record_of_the_old_listing_after_all_is_a_conflict_if_its_id_is_known(pair, observed):
    tracker = SequenceTracker()
    for number in range(10):
        tracker.observe(pair, observed(number, time=OLD + number))
    stray = observed(3, price=7, time=2 * OLD)
    assert tracker.observe(pair, stray) == Suspended(begins=True)
    assert tracker.observe(pair, observed(10, time=2 * OLD)) is None
    assert tracker.settle(pair, stray) == Conflict()


def test_a_late_record_of_the_listing_before_is_superseded_and_no_gap(pair, observed):
    tracker = relisted(pair, observed)
    items = [observed(number, time=OLD + number) for number in (1, 2, 3)]
    for item in (*items, *items):
        tracker.observe(pair, item)
    assert tracker.observe(pair, observed(1_000_001, time=OLD)) == Superseded()
    assert tracker.observe(pair, observed(4, time=OLD + 4)) is None


def test_a_gap_of_an_earlier_listing_is_not_filled_with_the_next_ones_records(pair, observed):
    tracker = SequenceTracker()
    for number in (*range(300), 306):
        finding = tracker.observe(pair, observed(number, time=OLD + number))
    gap = finding.gap
    items = [observed(number, time=10 * OLD + number) for number in range(310)]
    for item in (*items[:3], *items):
        tracker.observe(pair, item)
    assert tracker.listings == {"BTCUSDT": 2}
    assert tracker.missing(gap) == ((300, 305),)
    assert not tracker.fill(gap, items[302])
    assert tracker.fill(gap, observed(302, time=OLD + 302))
    assert tracker.missing(gap) == ((300, 301), (303, 305))


@pytest.mark.parametrize(("received", "repaired"), [(10**6, True), (1, True), (10**6, False)])
def test_a_stream_that_lags_behind_the_history_is_no_new_listing(pair, observed, received, repaired):
    """REST names the newest id, the gap up to it is closed, and only then the stream delivers the same trades.

    The clock that says when REST answered may be behind the exchange's.
    """
    tracker = SequenceTracker()
    tracker.observe(pair, observed(1000, time=OLD))
    gap = tracker.observe_head("BTCUSDT", 9000, OLD + received).gap
    assert tracker.observe(pair, observed(1001, time=OLD + 2)) == GapFilled(())
    for number in range(1002, 9001) if repaired else ():
        tracker.fill(gap, observed(number, time=OLD + number))
    tracker.close(gap)
    lagging = {tracker.observe(pair, observed(number, time=OLD + number)) for number in range(1002, 9001)}
    assert lagging == {Duplicate()}
    assert tracker.observe(pair, observed(9001, time=OLD + 9001)) is None


def test_a_listing_outlives_the_process(pair, observed):
    tracker = SequenceTracker()
    tracker.resume(pair, Position("100", OLD, 3))
    assert dict(tracker.listings) == {"BTCUSDT": 3}
    assert tracker.observe(pair, observed(103, time=OLD + 1)).gap.listing == 3
    for number in range(3):
        finding = tracker.observe(pair, observed(number, time=OLD + 2 + number))
    assert finding == SequenceReset(103, 4)


def test_a_listing_is_known_from_its_open_gap(pair, observed):
    tracker = SequenceTracker()
    tracker.reopen(Gap(pair, 5, 6, 0, 1, listing=2))
    assert dict(tracker.listings) == {"BTCUSDT": 2}
    assert tracker.observe(pair, observed(9)).gap.listing == 2


def test_repeats_near_the_newest_id_are_no_new_listing_even_if_that_ones_time_is_early(pair, observed):
    """As after a restart: what the exchange repeats is not known, and the newest trade came two hours late."""
    tracker = SequenceTracker()
    tracker.resume(pair, Position("1000", 5))
    assert {tracker.observe(pair, observed(number, time=OLD + number)) for number in range(950, 1000)} == {Duplicate()}


def test_a_late_record_fills_the_gap_of_its_own_listing_only(pair, observed):
    tracker = SequenceTracker()
    for number in (*range(300), 306):
        finding = tracker.observe(pair, observed(number, time=OLD + number))
    old_gap = finding.gap
    items = [observed(number, time=10 * OLD + number) for number in range(310)]
    for item in (*items[:3], *items[:302]):
        tracker.observe(pair, item)
    new_gap = tracker.observe(pair, items[304]).gap
    assert tracker.observe(pair, items[302]) == GapFilled(())
    assert tracker.observe(pair, items[303]) == GapFilled((new_gap,))
    assert tracker.missing(old_gap) == ((300, 305),)


def test_a_symbol_that_was_forgotten_is_still_in_its_listing(pair, observed):
    tracker = SequenceTracker(capacity=1)
    tracker.resume(pair, Position("100", OLD, 2))
    tracker.reopen(Gap(pair_of(EXCHANGES["binance"], "ETHUSDT"), 1, 2, 0, OLD))
    tracker.observe(pair, observed(200, time=OLD + 1))
    assert tracker.observe(pair, observed(202, time=OLD + 2)).gap.listing == 2


def test_what_was_recorded_of_the_old_listing_is_forgotten_with_it(pair, observed):
    tracker = SequenceTracker()
    for number in range(20):
        tracker.observe(pair, observed(number, time=OLD + number))
    items = [observed(number, time=2 * OLD + number) for number in (0, 1, 2)]
    for item in (*items, *items):
        tracker.observe(pair, item)
    gap = tracker.observe(pair, observed(9, time=2 * OLD + 9)).gap
    assert (gap.first_id, gap.last_id, gap.listing) == (3, 8, 2)
    assert tracker.observe(pair, observed(5, time=2 * OLD + 5)) == GapFilled(())


def test_old_trades_whose_times_are_later_than_that_of_a_late_trade_are_no_new_listing(pair, observed):
    tracker = SequenceTracker()
    for number in range(1, 601):
        tracker.observe(pair, observed(number, time=OLD + number))
    tracker.observe(pair, observed(601, time=5))  # two hours late
    repeats = {tracker.observe(pair, observed(number, time=OLD + number)) for number in range(1, 51)}
    assert repeats == {Duplicate()}


def follow(tracker, pair, observed, *numbers):
    """Return what each of these trades reveals."""
    return [tracker.observe(pair, observed(number)) for number in numbers]


@pytest.mark.parametrize("order", [(10, 20, 30, 40), (40, 30, 20, 10), (10, 11, 10, 11)])
def test_old_trades_that_do_not_follow_each_other_are_no_new_numbering(pair, observed, order):
    tracker = SequenceTracker()
    assert follow(tracker, pair, observed, 1_000, *order) == [None, *[Duplicate()] * 4]


@pytest.mark.parametrize(("last", "bound"), [(10, 5), (100, 50), (511, 255), (513, 257), (1_000, 744)])
def test_a_new_listing_begins_below_half_of_the_newest_id_or_beyond_what_is_repeated(pair, observed, last, bound):
    for number, kind in ((bound, Suspended), (bound + 1, Duplicate)):
        assert type(relisted(pair, observed, last).observe(pair, observed(number, time=OLD + 1))) is kind


def test_a_run_may_leave_the_ids_in_which_it_began(pair, observed):
    tracker = relisted(pair, observed, 100)
    findings = [tracker.observe(pair, observed(number, time=OLD + number)) for number in (49, 50, 51)]
    assert findings[2] == SequenceReset(100, 2)


def test_each_reset_takes_three_trades(pair, observed):
    tracker = relisted(pair, observed, 10_000)
    for number in (1, 2, 3, *range(1, 1_000)):
        tracker.observe(pair, observed(number, time=OLD + number))
    findings = [tracker.observe(pair, observed(number, time=2 * OLD + number)) for number in (4, 5, 6)]
    assert findings == [Suspended(begins=True), Suspended(begins=False), SequenceReset(999, 3)]


def test_old_trades_near_the_newest_are_no_new_numbering(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, observed(1_000_000))
    assert {tracker.observe(pair, observed(number)) for number in range(999_000, 999_300)} == {Duplicate()}
    assert tracker.observe(pair, observed(1_000_001)) is None


def test_after_a_restart_what_happened_meanwhile_is_a_gap(pair, observed):
    tracker = SequenceTracker()
    tracker.resume(pair, Position("100", 5))
    assert tracker.observe(pair, observed(150, time=9)) == GapDetected(Gap(pair, 101, 149, 5, 9))


def test_after_a_restart_without_loss_there_is_no_gap(pair, observed):
    tracker = SequenceTracker()
    tracker.resume(pair, Position("100", 5))
    assert tracker.observe(pair, observed(101)) is None


def test_a_gap_that_was_open_before_a_restart_is_filled_after_it(pair, observed):
    tracker, gap = SequenceTracker(), Gap(pair, 10, 11, 0, 1)
    tracker.resume(pair, Position("100", 5))
    tracker.reopen(gap)
    assert tracker.fill(gap, observed(10))
    assert not tracker.fill(gap, observed(10))
    assert tracker.close(gap) == ((11, 11),)
    assert tracker.missing(gap) == ()


def test_a_gap_can_be_reopened_although_no_trade_is_known(pair, observed):
    tracker, gap = SequenceTracker(), Gap(pair, 10, 11, 0, 1)
    tracker.reopen(gap)
    assert tracker.missing(gap) == ((10, 11),)
    assert tracker.observe(pair, observed(12)) is None


def test_the_exchanges_word_finds_a_gap_without_a_trade_after_it(pair, observed):
    tracker = SequenceTracker()
    assert tracker.observe_head("BTCUSDT", 5, 0) is None
    tracker.observe(pair, observed(10))
    assert tracker.observe_head("BTCUSDT", 10, 0) is None
    assert tracker.observe_head("BTCUSDT", 9, 0) is None
    finding = tracker.observe_head("BTCUSDT", 13, 99_000)
    assert finding == GapDetected(Gap(pair, 11, 13, 10_000, 99_000))
    assert tracker.observe_head("BTCUSDT", 13, 99_000) is None
    assert tracker.observe(pair, observed(12)) == GapFilled(())
    assert tracker.observe(pair, observed(14)) is None


def test_a_dead_letter_is_accounted_for_and_shows_the_gap_before_it(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, observed(10))
    assert tracker.skip(pair, 11, 0) is None
    assert tracker.observe(pair, observed(12)) is None
    assert tracker.skip(pair, 15, 77_000) == GapDetected(Gap(pair, 13, 14, 12_000, 77_000))
    assert tracker.skip(pair, 15, 0) is None
    assert tracker.skip(pair, 3, 0) is None
    assert tracker.observe(pair, observed(16)) is None


def test_symbols_are_followed_apart(observed):
    tracker = SequenceTracker()
    eth = pair_of(EXCHANGES["binance"], "ETHUSDT")
    btc = pair_of(EXCHANGES["binance"], "BTCUSDT")
    tracker.observe(btc, observed(10))
    tracker.resume(eth, Position("500", 0))
    assert tracker.observe(btc, observed(11)) is None
    assert tracker.observe_head("ETHUSDT", 501, 0).gap.pair == eth


def test_the_symbol_that_traded_longest_ago_is_forgotten_first(pair):
    tracker = SequenceTracker(capacity=2)
    for time, raw_symbol in enumerate(("ETHUSDT", "SOLUSDT", "BTCUSDT")):
        tracker.reopen(Gap(pair_of(EXCHANGES["binance"], raw_symbol), 1, 2, 0, time))
    assert tracker.missing(Gap(pair_of(EXCHANGES["binance"], "ETHUSDT"), 1, 2, 0, 0)) == ()
    assert tracker.missing(Gap(pair, 1, 2, 0, 2)) == ((1, 2),)


def test_resumed_symbols_count_towards_the_capacity(pair):
    tracker = SequenceTracker(capacity=1)
    tracker.resume(pair_of(EXCHANGES["binance"], "ETHUSDT"), Position("1", 0))
    tracker.resume(pair, Position("1", 1))
    assert tracker.observe_head("ETHUSDT", 2, 0) is None
    assert tracker.observe_head("BTCUSDT", 2, 3) == GapDetected(Gap(pair, 2, 2, 1, 3))


def test_ten_thousand_symbols_are_tracked_by_default(pair):
    tracker = SequenceTracker()
    gaps = [Gap(replace(pair, symbol=str(number)), 1, 2, 0, number) for number in range(10_001)]
    for gap in gaps[:-1]:
        tracker.reopen(gap)
    assert tracker.missing(gaps[0])
    tracker.reopen(gaps[-1])
    assert [bool(tracker.missing(gap)) for gap in gaps] == [False] + [True] * 10_000


def test_a_trade_of_a_symbol_that_is_not_tracked_is_new(pair, observed):
    assert SequenceTracker().fill(Gap(pair, 10, 11, 0, 1), observed(10))


def test_a_clock_that_is_ahead_does_not_move_where_the_next_gap_begins(pair, observed):
    tracker = SequenceTracker()
    assert tracker.observe(pair, observed(10)) is None
    assert tracker.observe_head("BTCUSDT", 12, 3_600_000_000).gap.since == 10_000
    assert tracker.observe(pair, observed(13)) is None
    assert tracker.observe(pair, observed(20)).gap.since == 13_000


def test_a_gap_behind_another_is_recognised_by_what_arrived_before_both(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, observed(10))
    first, second = (tracker.observe_head(pair.symbol, newest, newest * 1000).gap for newest in (30, 50))
    assert not tracker.knows(second, 30)
    assert tracker.known_before(second, 30) == (10, first.since)
    tracker.fill(first, observed(30))
    assert tracker.knows(second, 30)
    assert tracker.known_before(second, 30) == (30, second.since)
    tracker.observe(pair, observed(51))
    for number in range(52, 400):
        tracker.observe(pair, observed(number))
    assert tracker.knows(second, 51)
    assert SequenceTracker().known_before(second, 30) is None
