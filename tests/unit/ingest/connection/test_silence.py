"""How long a symbol may be silent before it is asked for, and what is done then. Clocks are given."""

import random
from itertools import pairwise

import pytest

from k2.ingest.connection.refusals import Refusals
from k2.ingest.connection.silence import Remedy, Silence
from k2.ingest.exchanges.base import NO_ID, Newest


def learned(interval: float, records: int = 50) -> tuple[Silence, float]:
    silence, now = Silence(), 0.0
    silence.subscribed(now)
    for _ in range(records):
        now += interval
        silence.record(now)
    return silence, now


def asked(silence: Silence, since: float, until: int) -> list[int]:
    return [second for second in range(until) if silence.ask(since + second)]


@pytest.mark.parametrize(("interval", "longest"), [(0.5, 2.5), (1, 5), (60, 300)])
def test_a_pause_of_a_few_intervals_is_regular(interval, longest):
    silence, now = learned(interval)
    assert silence.regular(now + longest - 0.01)
    assert not silence.regular(now + longest + 0.01)


def test_a_symbol_that_is_not_subscribed_is_not_regular():
    silence, now = learned(1)
    silence.lost()
    assert not silence.regular(now)


@pytest.mark.parametrize(("interval", "limit"), [(1, 30), (1.4, 30), (10, 207), (60, 1243)])
def test_the_expectation_is_learned_from_the_rate_and_never_below_thirty_seconds(interval, limit):
    silence, now = learned(interval)
    assert asked(silence, now, limit + 2)[0] == pytest.approx(limit, abs=1)


def test_a_poisson_symbol_is_hardly_ever_suspicious():
    rng, suspicions = random.Random(1), 0
    for _ in range(20):
        silence, now = learned(4.0)
        for _ in range(2000):
            pause = rng.expovariate(1 / 4.0)
            suspicions += silence.ask(now + pause)
            now += pause
            silence.record(now)
    assert suspicions <= 4  # of 40,000


def test_a_quiet_symbol_is_asked_for_ever_more_seldom():
    silence, now = learned(1)
    times = asked(silence, now, 5000)
    assert times[:5] == [30, 60, 120, 240, 480]
    assert all(later - earlier == 900 for earlier, later in pairwise(times[6:]))


def test_a_symbol_of_which_nothing_came_is_asked_for_after_the_shortest_silence():
    silence = Silence()
    assert asked(silence, 0, 100) == []
    silence.subscribed(100)
    assert asked(silence, 100, 31) == [30]


def test_a_silent_symbol_is_renewed_then_its_connection_replaced_and_then_ever_more_seldom():
    silence, now = learned(1)
    remedies, times = [], []
    for second in range(20_000):
        if silence.ask(now + second):
            remedies.append(silence.is_silent(now + second))
            times.append(second)
    assert remedies[:4] == [Remedy.RENEW, Remedy.REPLACE, Remedy.RENEW, Remedy.REPLACE]
    assert times[:5] == [30, 60, 90, 150, 270]
    assert times[-1] - times[-2] >= 3600


def test_a_new_connection_does_not_forget_that_the_last_one_did_not_help():
    silence, now = learned(1)
    for second in (30, 60, 90):
        assert silence.ask(now + second)
        silence.is_silent(now + second)
    silence.lost()
    silence.subscribed(now + 91)
    assert asked(silence, now + 91, 60)[:1] == [59]


def test_a_record_ends_it_all():
    silence, now = learned(1)
    silence.ask(now + 30)
    silence.is_silent(now + 30)
    assert (silence.suspicious, silence.silent) == (True, True)
    silence.record(now + 31)
    assert (silence.suspicious, silence.silent) == (False, False)
    assert silence.ask(now + 200)
    assert silence.is_silent(now + 200) is Remedy.RENEW


def test_a_pause_of_our_own_is_no_silence_and_no_interval():
    silence, now = learned(1)
    silence.restart(now + 500)
    assert asked(silence, now + 500, 30) == []
    silence.record(now + 501)
    assert silence.limit == 30


def test_only_what_is_subscribed_can_be_silent():
    silence, now = learned(1)
    silence.lost()
    assert asked(silence, now, 1000) == []


class List:
    """An instrument list that a test changes."""

    def __init__(self, **trading: bool) -> None:
        self.version, self.known = 1, trading

    def trading(self, raw_symbol: str) -> bool | None:
        """As it was given."""
        return self.known.get(raw_symbol)

    def reason(self, raw_symbol: str) -> str:
        """Names the symbol."""
        return f"{raw_symbol} is not listed"


def test_a_refused_symbol_is_tried_again_later_each_time_and_at_the_latest_after_a_day():
    refusals, now, waits = Refusals(), 0.0, []
    for _ in range(8):
        refusals.refuse("A", "no", now)
        wait = next(second for second in range(0, 90_000, 20) if refusals.due(["A"], now + second))
        waits.append(wait)
        now += wait
        assert refusals.subscribable(["A"], now) == ["A"]
        assert refusals.due(["A"], now) == []
    assert waits == [60, 240, 960, 3840, 15_360, 61_440, 86_400, 86_400]


def test_a_refused_symbol_is_not_sent_on_every_new_connection():
    refusals = Refusals()
    refusals.refuse("A", "no A", 0)
    assert [refusals.subscribable(["A", "B"], now) for now in range(3)] == [["B"]] * 3
    assert (refusals.reason("A"), refusals.reason("B")) == ("no A", "")


def test_an_attempt_that_was_not_answered_is_made_again():
    refusals = Refusals()
    refusals.refuse("A", "no A", 0)
    assert refusals.subscribable(["A"], 60) == ["A"]
    assert refusals.subscribable(["A"], 61) == ["A"]


def test_a_symbol_that_the_list_knows_as_not_trading_is_not_sent():
    listing = List(A=False, B=True)
    refusals = Refusals(listing)
    assert refusals.subscribable(["A", "B", "C"], 0) == ["B", "C"]
    assert refusals.reason("A") == "A is not listed"


def test_every_refused_symbol_is_tried_again_when_the_list_changes():
    listing = List(A=False)
    refusals = Refusals(listing)
    refusals.subscribable(["A"], 0)
    refusals.refuse("B", "no B", 0)
    assert refusals.due(["A", "B"], 1) == []
    listing.version, listing.known = 2, {"A": True}
    assert refusals.due(["A", "B"], 1) == ["A", "B"]
    assert refusals.subscribable(["A", "B"], 1) == ["A", "B"]


def test_what_flows_was_never_refused():
    refusals = Refusals()
    refusals.refuse("A", "no", 0)
    refusals.forget("A")
    assert refusals.subscribable(["A"], 0) == ["A"]


@pytest.mark.parametrize("first", [Newest(1000), Newest(0), Newest(NO_ID, 1), Newest(1000, 1)])
def test_the_first_trade_of_a_symbol_is_newer_than_none(first):
    assert first.after(Newest())
    assert not Newest().after(first)
    assert not first.after(first)
    assert not Newest().after(Newest())


def test_ids_decide_where_both_have_one_and_else_the_time():
    assert Newest(8, 1).after(Newest(7, 2))
    assert not Newest(7, 2).after(Newest(8, 1))
    assert Newest(7, 2).after(Newest(NO_ID, 1))
    assert not Newest(7).after(Newest(NO_ID, 1))
