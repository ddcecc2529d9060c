"""Ids and times that cannot be true: one of them neither opens a gap nor hides one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.exchanges.base import Gap, SequencedRecord
from k2.ingest.sequencing.ids import SequenceTracker
from k2.ingest.sequencing.reconnect_windows import ReconnectWindowTracker
from k2.ingest.sequencing.tracker import (
    Conflict,
    Duplicate,
    Finding,
    GapDetected,
    GapFilled,
    Misnumbered,
    Position,
    SequenceJump,
    SequenceReset,
    Suspended,
)
from k2.schemas.exchanges.spec import Pair

MINUTE = 60_000_000
NOW = 10**15
FIRST = 5_000_000_000
FAR = FIRST + 10**7  # no symbol trades so much in the seconds of these tests
LAST = 2**63 - 1

Observed = Callable[..., SequencedRecord]


def trade(observed: Observed, number: int, at: int = 0, **fields: int) -> SequencedRecord:
    """A trade that is received `at` microseconds after the first."""
    return observed(number, **{"time": NOW + at, "received": NOW + at, **fields})


class Stream:
    """Feeds a tracker as the pipeline does: the suspended records are settled once the old sequence goes on."""

    def __init__(self, pair: Pair, tracker: SequenceTracker) -> None:
        self._pair = pair
        self._tracker = tracker
        self._suspended: list[SequencedRecord] = []
        self.gaps: list[Gap] = []
        self.settled: list[Finding] = []

    def take(self, item: SequencedRecord) -> None:
        finding = self._tracker.observe(self._pair, item)
        if isinstance(finding, Suspended):
            if finding.begins:
                self._settle()
            self._suspended.append(item)
            return
        assert finding is None or isinstance(finding, GapDetected), finding
        self._settle()
        if finding is not None:
            self.gaps.append(finding.gap)

    def _settle(self) -> None:
        self.settled += [self._tracker.settle(self._pair, item) for item in self._suspended]
        self._suspended.clear()

    @property
    def missing(self) -> list[int]:
        return [number for gap in self.gaps for number in range(gap.first_id, gap.last_id + 1)]


def test_single_ids_far_ahead_move_nothing_whatever_is_dropped_around_them(pair, observed):
    """At most two in a row: three consecutive ones would be a proof."""
    strays = st.dictionaries(st.integers(1, 59), st.lists(st.integers(FAR, LAST), min_size=1, max_size=2))

    @given(st.sets(st.integers(1, 59)), strays, st.integers(-MINUTE, MINUTE * 1000))
    def check(dropped: set[int], strays: dict[int, list[int]], off: int) -> None:
        stream = Stream(pair, SequenceTracker())
        for number in range(61):
            if number not in dropped:
                stream.take(trade(observed, FIRST + number, number * 1000))
            for stray in strays.get(number, []):
                stream.take(trade(observed, stray, number * 1000, time=NOW + number * 1000 + off))
        assert stream.missing == [FIRST + number for number in sorted(dropped)]
        assert set(stream.settled) <= {Misnumbered()}
        assert len(stream.settled) == sum(map(len, strays.values()))

    check()


def test_three_consecutive_ids_far_ahead_prove_that_the_sequence_goes_on_there(pair, observed):
    @given(st.integers(FAR, LAST - 10))
    def check(far: int) -> None:
        tracker = SequenceTracker()
        tracker.resume(pair, Position(str(FIRST), NOW))
        items = [trade(observed, far + index, 10 + index) for index in range(3)]
        assert [tracker.observe(pair, item) for item in items] == [
            Suspended(begins=True), Suspended(begins=False), SequenceJump(FIRST, far),
        ]  # fmt: skip
        again = [tracker.observe(pair, item) for item in items]
        assert again == [GapDetected(Gap(pair, FIRST + 1, far - 1, NOW, NOW + 10)), None, None]
        assert tracker.observe(pair, trade(observed, far + 3, 13)) is None
        assert tracker.listings == {}

    check()


@pytest.mark.parametrize(
    ("numbers", "ats"),
    [
        ((FAR, FAR + 1, FAR + 3, FAR + 4), (1, 2, 3, 4)),  # one is missing
        ((FAR, FAR + 2, FAR + 4, FAR + 6), (1, 2, 3, 4)),
        ((FAR, FAR + 1, FAR + 2), (1, 2, 1)),  # times fall
        ((FAR, FAR, FAR, FAR), (1, 1, 1, 1)),  # repeats
        ((FAR + 2, FAR + 1, FAR), (1, 2, 3)),
        ((FAR, FAR + 1, FAR + 10**8 + 2, FAR + 10**8 + 3), (1, 2, 3, 4)),  # the third is as far from the second
    ],
)
def test_what_proves_no_jump(pair, observed, numbers, ats):
    stream = Stream(pair, SequenceTracker())
    stream.take(trade(observed, FIRST))
    for number, at in zip(numbers, ats, strict=True):
        stream.take(trade(observed, number, at))
    stream.take(trade(observed, FIRST + 1, 9))
    assert stream.gaps == []
    assert stream.settled == [Misnumbered()] * len(numbers)


def test_a_jump_in_which_ids_are_missing_is_proved_by_three_that_follow_on_each_other(pair, observed):
    tracker = SequenceTracker()
    tracker.resume(pair, Position(str(FIRST), NOW))
    items = [trade(observed, FAR + number, number) for number in (1, 3, 4, 5)]
    assert tracker.observe(pair, items[0]) == Suspended(begins=True)
    assert [tracker.observe(pair, item) for item in items[1:]] == [
        *[Suspended(begins=False)] * 2,
        SequenceJump(FIRST, FAR + 1),
    ]
    gaps = [finding.gap for item in items if (finding := tracker.observe(pair, item))]
    assert [(gap.first_id, gap.last_id) for gap in gaps] == [(FIRST + 1, FAR), (FAR + 2, FAR + 2)]


def test_a_dead_letter_among_the_ids_that_prove_a_jump_does_not_delay_the_proof(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    for number in (FAR, FAR + 1):
        tracker.observe(pair, trade(observed, number, 1))
    assert tracker.skip(pair, FAR + 2, NOW + 1) == Suspended(begins=False)
    assert tracker.observe(pair, trade(observed, FAR + 3, 2)) == SequenceJump(FIRST, FAR)


@pytest.mark.parametrize("seconds", [0, 1, 3600, 3 * 86_400])
def test_a_gap_may_be_as_large_as_a_symbol_can_trade_in_the_time(pair, observed, seconds):
    most = 10_000 + 10_000 * seconds
    for ids, kind in ((most, GapDetected), (most + 1, Suspended)):
        tracker = SequenceTracker()
        tracker.resume(pair, Position(str(FIRST), NOW))
        assert type(tracker.observe(pair, trade(observed, FIRST + ids, seconds * 1_000_000))) is kind


def test_the_exchanges_time_of_a_stray_id_does_not_make_it_plausible(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    stray = trade(observed, FAR, 1, time=NOW + 365 * 86_400 * 1_000_000)
    assert tracker.observe(pair, stray) == Suspended(begins=True)


def test_the_clock_of_this_machine_does_not_make_a_stray_id_plausible(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    stray = trade(observed, FAR, 1, received=NOW + 365 * 86_400 * 1_000_000)
    assert tracker.observe(pair, stray) == Suspended(begins=True)


def test_an_aggregate_whose_last_id_is_far_ahead_is_suspended(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    assert tracker.observe(pair, trade(observed, FAR, 1, first=FIRST + 1)) == Suspended(begins=True)
    assert tracker.observe(pair, trade(observed, FIRST + 1, 2)) is None


def test_what_is_no_stray_any_more_when_it_is_settled_is_taken_for_what_it_is(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    early, other = trade(observed, FIRST + 20_000, 1), trade(observed, FIRST + 20_000, 1, price=7)
    assert tracker.observe(pair, early) == Suspended(begins=True)
    tracker.observe(pair, trade(observed, FIRST + 10_000, 2))
    tracker.observe(pair, trade(observed, FIRST + 20_000, 3, time=NOW + 1))
    assert tracker.settle(pair, early) == Duplicate()
    assert tracker.settle(pair, other) == Conflict()


def test_a_newest_id_far_ahead_changes_nothing(pair, observed):
    @given(st.integers(FAR, LAST))
    def check(newest: int) -> None:
        tracker = SequenceTracker()
        tracker.observe(pair, trade(observed, FIRST))
        assert tracker.observe_head("BTCUSDT", newest, NOW + 1_000_000) == Misnumbered()
        assert tracker.observe(pair, trade(observed, FIRST + 1, 2_000_000)) is None

    check()


def test_a_newest_id_may_be_as_far_ahead_as_a_symbol_trades_in_a_long_silence(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    finding = tracker.observe_head("BTCUSDT", FIRST + 1_000_000, NOW + 99_000_000)
    assert finding == GapDetected(Gap(pair, FIRST + 1, FIRST + 1_000_000, NOW, NOW + 99_000_000))


def test_a_dead_letter_far_ahead_changes_nothing(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    assert tracker.skip(pair, FAR, NOW + 1) is None
    assert tracker.observe(pair, trade(observed, FIRST + 1, 2)) is None


def test_no_wrong_time_misplaces_a_gap(pair, observed):
    """A gap must not be given up because of its age, nor be looked for where it is not."""
    times = st.one_of(st.none(), st.integers(1, 2**53), st.just(NOW * 50))

    @given(st.lists(st.tuples(st.integers(1, 3), times), min_size=1, max_size=40))
    def check(steps: list[tuple[int, int | None]]) -> None:
        stream, number = Stream(pair, SequenceTracker()), FIRST
        stream.take(trade(observed, number))
        for index, (step, time) in enumerate(steps, 1):
            number += step
            at = index * 1000
            stream.take(trade(observed, number, at, time=NOW + at if time is None else time))
        assert len(stream.gaps) == sum(step > 1 for step, _ in steps)
        for gap in stream.gaps:
            assert NOW - MINUTE <= gap.since <= gap.until <= NOW + len(steps) * 1000 + MINUTE

    check()


def test_a_trade_from_the_future_does_not_hide_the_next_listing(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    tracker.observe(pair, trade(observed, FIRST + 1, 1, time=NOW * 50))
    items = [trade(observed, number, 10 + number) for number in (1, 2, 3)]
    assert tracker.observe(pair, items[0]) == Suspended(begins=True)
    tracker.observe(pair, items[1])
    assert tracker.observe(pair, items[2]) == SequenceReset(FIRST + 1, 2)


def test_a_backfilled_trade_from_the_future_does_not_hide_the_next_listing(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    gap = tracker.observe(pair, trade(observed, FIRST + 2, 1)).gap
    assert tracker.fill(gap, trade(observed, FIRST + 1, 2, time=NOW * 50))
    assert tracker.observe(pair, trade(observed, 1, 10)) == Suspended(begins=True)


@pytest.mark.parametrize("ahead", [MINUTE, MINUTE + 1])
def test_a_time_up_to_a_minute_ahead_is_believed(pair, observed, ahead):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST, time=NOW + ahead))
    gap = tracker.observe(pair, trade(observed, FIRST + 2, 5)).gap
    assert gap.since == (NOW + MINUTE if ahead == MINUTE else NOW)


def test_ids_below_a_wrong_one_fill_its_gap_however_late_they_come(pair, observed):
    """A wrong id that is not far ahead is believed, and the true ones arrive below it, slowly."""
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    gap = tracker.observe(pair, trade(observed, FIRST + 9_000, 1)).gap
    for number in range(1, 400):
        assert tracker.observe(pair, trade(observed, FIRST + number, number * MINUTE)) == GapFilled(())
    assert tracker.missing(gap) == ((FIRST + 400, FIRST + 8_999),)
    assert tracker.listings == {}


def begin(tracker: SequenceTracker, pair: Pair, observed: Observed, first: int) -> list[Finding | None]:
    """Return what three trades from `first` on reveal, a minute after all others, and what they do once proved."""
    items = [trade(observed, first + index, MINUTE + index) for index in range(3)]
    return [tracker.observe(pair, item) for item in items] + [tracker.observe(pair, item) for item in items]


@pytest.mark.parametrize("wrong", [LAST, 7])
def test_a_first_id_that_was_wrong_is_corrected_by_those_that_follow_on_each_other(pair, observed, wrong):
    """Nothing is known to be missing before them, whether it was too high or too low."""
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, wrong))
    assert begin(tracker, pair, observed, FIRST)[2:] == [SequenceJump(wrong, FIRST), None, None, None]
    assert tracker.observe(pair, trade(observed, FIRST + 4, 2 * MINUTE)).gap.first_id == FIRST + 3
    assert tracker.listings == {}


def test_only_the_first_of_all_ids_is_corrected(pair, observed):
    """Ids that others vouch for were true: the next listing began, at ids that cannot be its first."""
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, LAST - 1))
    tracker.observe(pair, trade(observed, LAST))
    assert begin(tracker, pair, observed, FIRST)[2:] == [SequenceReset(LAST, 2), None, None, None]


def test_an_id_that_an_earlier_process_stored_is_not_corrected(pair, observed):
    tracker = SequenceTracker()
    tracker.resume(pair, Position(str(LAST), NOW))
    assert begin(tracker, pair, observed, FIRST)[2:] == [SequenceReset(LAST, 2), None, None, None]
    assert tracker.observe(pair, trade(observed, FIRST + 3, 2 * MINUTE)) is None


def test_a_window_begins_no_later_than_its_first_record_was_received(pair, observed):
    tracker = ReconnectWindowTracker()
    tracker.observe(pair, observed(0, trade_id="a", time=NOW * 50, received=NOW))
    tracker.on_disconnect(["BTCUSDT"])
    finding = tracker.observe(pair, observed(0, trade_id="b", time=NOW + 5, received=NOW + 5))
    assert (finding.gap.since, finding.gap.until) == (NOW, NOW + 5)
    tracker.on_disconnect(["BTCUSDT"])
    assert tracker.observe(pair, observed(0, trade_id="c", time=NOW + 9, received=NOW + 9)).gap.since == NOW + 5


def test_a_stray_id_before_a_jump_is_no_part_of_it(pair, observed):
    tracker = SequenceTracker()
    tracker.observe(pair, trade(observed, FIRST))
    assert tracker.observe(pair, trade(observed, FAR, 1)) == Suspended(begins=True)
    findings = [tracker.observe(pair, trade(observed, FAR + 10**8 + number, 2 + number)) for number in range(3)]
    assert findings == [Suspended(begins=True), Suspended(begins=False), SequenceJump(FIRST, FAR + 10**8)]
