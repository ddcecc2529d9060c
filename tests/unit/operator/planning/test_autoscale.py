"""How many shards a measured load needs: hysteresis, waiting times, bounds."""

from dataclasses import replace
from datetime import timedelta

import pytest

from k2.operator.observed.objects import Shard
from k2.operator.planning.autoscale import (
    AIM,
    CARRIED,
    COOL_DOWN,
    FEWER_AFTER,
    HIGH,
    LATE,
    LOW,
    MORE_AFTER,
    Load,
    Scale,
    decide,
    loads,
)
from tests.unit.operator.conftest import NOW

SYMBOLS = [f"COIN{number}USDT" for number in range(20)]
SECOND = timedelta(seconds=1)


@pytest.fixture
def auto(feed):
    """Build a feed of `shards: auto`."""
    return lambda **autoscale: feed(symbols=SYMBOLS, ingest={"shards": "auto", "autoscale": autoscale})


def after(own, waited, counts, measured, before=None):
    """Return what is decided when the same load has lasted for a while."""
    state = decide(own, before, counts, measured, NOW)
    return decide(own, state, counts, measured, NOW + waited)


def busy(*rates, lag=0.0):
    return [Load(rate, lag, 5) for rate in rates]


def test_a_number_that_is_written_is_not_decided(feed):
    assert decide(feed(ingest={"shards": 3}), None, (2,), busy(1e6, 1e6), NOW).count == 3


def test_a_new_feed_begins_with_the_least(auto):
    assert decide(auto(min=2), None, (), [], NOW).count == 2


def test_more_when_the_busiest_shard_had_too_much_for_a_minute(auto):
    assert after(auto(), MORE_AFTER - SECOND, (2,), busy(HIGH + 1, 10)).count == 2
    scale = after(auto(), MORE_AFTER, (2,), busy(HIGH + 1, 10))
    assert scale.count == 3
    assert "3501 messages/s" in scale.reason


def test_as_many_as_bring_the_busiest_to_where_nothing_changes_but_never_more_than_twice(auto):
    assert after(auto(), MORE_AFTER, (4,), busy(CARRIED, CARRIED, CARRIED, CARRIED)).count == 8
    assert after(auto(), MORE_AFTER, (2,), busy(9 * CARRIED, CARRIED)).count == 4
    assert LOW < AIM < HIGH


def test_a_late_event_loop_needs_more_whatever_the_rate(auto):
    assert after(auto(), MORE_AFTER, (1,), busy(10, lag=LATE + 0.1)).count == 2


def test_a_shard_of_one_symbol_cannot_be_divided(auto):
    assert after(auto(), MORE_AFTER, (2,), [Load(CARRIED, 9.0, 1), Load(10, 0.0, 9)]).count == 2


def test_one_fewer_when_little_would_be_left_for_each_for_ten_minutes(auto):
    assert after(auto(), FEWER_AFTER - SECOND, (3,), busy(100, 100, 100)).count == 3
    assert after(auto(), FEWER_AFTER, (3,), busy(100, 100, 100)).count == 2
    assert after(auto(), FEWER_AFTER, (3,), busy(100, 100, 100, lag=0.2)).count == 3


@pytest.mark.parametrize("rate", [LOW / 2 + 1, AIM, HIGH])
def test_between_the_two_nothing_changes(auto, rate):
    assert after(auto(), 10 * FEWER_AFTER, (2,), busy(rate, rate)).count == 2


@pytest.mark.parametrize("count", range(1, 8))
def test_what_was_added_is_not_taken_away_by_the_same_load(auto, count):
    total = (HIGH + 1) * count
    more = after(auto(), MORE_AFTER, (count,), busy(*[total / count] * count)).count
    assert more > count
    assert after(auto(), 10 * FEWER_AFTER, (more,), busy(*[total / more] * more)).count == more


def test_a_load_that_is_not_known_changes_nothing_and_begins_the_times_again(auto):
    high = decide(auto(), None, (2,), busy(CARRIED, 10), NOW)
    unknown = decide(auto(), high, (2,), [], NOW + MORE_AFTER)
    assert unknown.count == 2
    assert decide(auto(), unknown, (2,), busy(CARRIED, 10), NOW + 2 * MORE_AFTER).count == 2


def test_a_load_that_falls_in_between_begins_the_times_again(auto):
    high = decide(auto(), None, (2,), busy(CARRIED, 10), NOW)
    calm = decide(auto(), high, (2,), busy(AIM, 10), NOW + SECOND)
    assert decide(auto(), calm, (2,), busy(CARRIED, 10), NOW + MORE_AFTER).count == 2


def test_after_a_change_nothing_changes_for_a_while(auto):
    changing = decide(auto(), Scale(3, "why"), (2, 3), [], NOW)
    assert (changing.count, changing.reason, changing.changed_at) == (3, "why", NOW)
    assert after(auto(), COOL_DOWN - SECOND, (3,), busy(CARRIED, 1, 1), changing).count == 3
    assert after(auto(), COOL_DOWN, (3,), busy(CARRIED, 1, 1), changing).count > 3


def test_an_operator_that_starts_in_the_middle_of_a_change_goes_on_with_it(auto):
    assert decide(auto(), None, (2, 3), [], NOW).count == 3


@pytest.mark.parametrize(("bounds", "count"), [({"max": 2}, 2), ({"min": 5}, 5), ({"min": 4, "max": 4}, 4)])
def test_bounds_hold_whatever_the_load(auto, bounds, count):
    assert decide(auto(**bounds), None, (3 if count != 4 else 6,), [], NOW).count == count
    assert after(auto(**bounds), FEWER_AFTER, (count,), busy(*[CARRIED] * count)).count <= bounds.get("max", 8)
    assert after(auto(**bounds), FEWER_AFTER, (count,), busy(*[1] * count)).count >= bounds.get("min", 1)


def test_a_load_is_known_when_every_shard_reports_it(auto):
    own = auto()
    reports = [
        Shard(f"{index}-0", connected=True, rate=10.0 * index, states=(("flowing", 7),), counts=(2,), loop_lag=0.1)
        for index in range(2)
    ]
    assert loads(own, (2,), reports) == (Load(0.0, 0.1, 7), Load(10.0, 0.1, 7))
    busier = Shard("0-1", connected=True, rate=99.0, counts=(2,))
    assert loads(own, (2,), [*reports, busier])[0] == Load(99.0, 0.0, 0)
    assert loads(own, (2,), reports[:1]) == ()
    assert loads(own, (2,), [reports[0], Shard("1-0", connected=False, counts=(2,))]) == ()
    assert loads(own, (2,), [reports[0], Shard("1-0", connected=True, counts=(2, 3))]) == ()


def test_the_load_of_every_channel_is_needed_and_each_counts(feed):
    own = feed(symbols=SYMBOLS, channels=["trades", "quotes"], ingest={"shards": "auto"})
    trades = [Shard(f"{shard}-0", True, rate=100.0, states=(("flowing", 9),), counts=(2,)) for shard in range(2)]
    quotes = [replace(report, rate=HIGH + 1, channel="quotes") for report in trades]
    assert loads(own, (2,), [*trades, quotes[0]]) == ()
    measured = loads(own, (2,), [*trades, *quotes])
    assert [load.rate for load in measured] == [100.0, 100.0, HIGH + 1, HIGH + 1]
    assert after(own, MORE_AFTER, (2,), measured).count == 3
