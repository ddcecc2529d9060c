"""Who may take a Lease, and until when its holder may write."""

import pytest

from k2.operator.planning.leadership import (
    DEADLINE,
    DURATION,
    Instant,
    Observation,
    is_valid,
    may_take,
    observe,
    record,
)

START = Instant(100.0, 1_000_000.0)


def later(monotonic, wall=None):
    return Instant(START.monotonic + monotonic, START.wall + (monotonic if wall is None else wall))


def lease(holder="other", version="1"):
    spec = {"holderIdentity": holder, "leaseDurationSeconds": DURATION}
    return {"metadata": {"resourceVersion": version}, "spec": spec}


@pytest.mark.parametrize("holder", ["own", "", None])
def test_a_lease_that_is_its_own_or_released_is_taken(holder):
    assert may_take(lease(holder), "own", Observation("1", START), START)


def test_another_ones_is_taken_when_it_has_not_changed_for_its_duration():
    first = observe(lease(), Observation(), START)
    assert not may_take(lease(), "own", first, later(DURATION))
    assert may_take(lease(), "own", observe(lease(), first, later(DURATION)), later(DURATION + 0.1))
    renewed = observe(lease(version="2"), first, later(DURATION))
    assert not may_take(lease(version="2"), "own", renewed, later(DURATION + 0.1))


def test_a_wall_clock_that_is_set_forwards_deposes_nobody():
    first = observe(lease(), Observation(), START)
    assert not may_take(lease(), "own", first, later(1.0, 3600.0))


@pytest.mark.parametrize(
    ("now", "valid"),
    [
        (later(DEADLINE - 0.1), True),
        (later(DEADLINE), False),
        (later(0.5, DEADLINE), False),  # the machine slept, and the monotonic clock stood still
        (later(DEADLINE, -3600.0), False),  # the wall clock was set back
    ],
)
def test_a_holder_writes_until_its_deadline_on_either_clock(now, valid):
    assert is_valid(START, now) is valid


def test_without_a_renewal_nothing_is_written():
    assert not is_valid(None, START)


def test_a_holder_stops_before_another_may_begin():
    assert DEADLINE + 2.0 < DURATION


def test_the_record_counts_changes_of_the_holder_and_keeps_what_it_does_not_know():
    first = record(None, "own", "t1")
    assert first == {
        "acquireTime": "t1", "leaseTransitions": 0, "holderIdentity": "own", "leaseDurationSeconds": DURATION,
        "renewTime": "t1",
    }  # fmt: skip
    renewed = record({"spec": first | {"strategy": "x"}}, "own", "t2")
    assert renewed == first | {"renewTime": "t2", "strategy": "x"}
    assert record({"spec": first}, "other", "t3")["leaseTransitions"] == 1
    assert record({"spec": first}, "", "t3")["holderIdentity"] == ""
