"""Rollout and rollback of a changed SparkApplication, and the watchdog for PENDING_RERUN."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.operator.observed.objects import Application
from k2.operator.planning.rollout import (
    COOL_DOWN,
    START_TIMEOUT,
    STOP_TIMEOUT,
    STUCK_AFTER,
    Action,
    ApplicationState,
    RolloutState,
    StuckState,
    check_stuck,
    step,
)
from tests.unit.operator.conftest import NOW

TICK = timedelta(seconds=10)
STEADY = RolloutState("steady", "", trying="one", stable="one")


def at(seconds=0.0, **more):
    return (NOW + timedelta(seconds=seconds, **more)).isoformat(timespec="seconds")


def observed(running, *, healthy=True, stopped=False):
    return ApplicationState(running, healthy, stopped)


def test_a_new_application_is_applied_and_stable_once_healthy():
    first = step("one", observed("", healthy=False, stopped=True), RolloutState(), NOW)
    assert first.action is Action.APPLY
    starting = step("one", observed("one", healthy=False), first.state, NOW + TICK)
    assert (starting.action, starting.state.stable) == (Action.KEEP, "")
    done = step("one", observed("one"), starting.state, NOW + 2 * TICK)
    assert done.action is Action.KEEP
    assert done.state == RolloutState("steady", "", trying="one", stable="one")


def test_without_a_change_no_action_is_taken_and_the_state_is_kept():
    assert step("one", observed("one"), STEADY, NOW) == step("one", observed("one"), STEADY, NOW + COOL_DOWN)
    assert step("one", observed("one"), STEADY, NOW).state == STEADY
    assert step("one", observed("one", healthy=False), STEADY, NOW).state == STEADY


def test_a_running_application_without_state_is_kept_and_stable_only_once_healthy():
    next_step = step("one", observed("one", healthy=False), RolloutState(), NOW)
    assert (next_step.action, next_step.state.stable) == (Action.KEEP, "")
    assert step("one", observed("one"), next_step.state, NOW).state.stable == "one"


def test_a_healthy_application_is_stopped_before_another_spec_is_applied():
    asked = step("two", observed("one"), STEADY, NOW)
    assert asked.action is Action.STOP
    waiting = step("two", observed("one"), asked.state, NOW + TICK)
    assert waiting.action is Action.STOP
    assert waiting.state == asked.state
    applied = step("two", observed("one", stopped=True), waiting.state, NOW + 2 * TICK)
    assert applied.action is Action.APPLY
    done = step("two", observed("two"), applied.state, NOW + 3 * TICK)
    assert (done.action, done.state.stable, done.state.stage) == (Action.KEEP, "two", "steady")


def test_a_batch_that_never_ends_is_waited_for_until_the_timeout():
    asked = step("two", observed("one"), STEADY, NOW)
    just = NOW + STOP_TIMEOUT
    assert step("two", observed("one"), asked.state, just - TICK).action is Action.STOP
    assert step("two", observed("one"), asked.state, just).action is Action.APPLY


def test_the_timeouts_are_two_and_ten_minutes():
    assert (STOP_TIMEOUT.total_seconds(), START_TIMEOUT.total_seconds()) == (120, 600)


# Specs are hashes, without an order: each of these sorts on another side of "one" and "two".
@pytest.mark.parametrize("newest", ["a", "three", "z"])
def test_a_spec_changed_again_while_stopping_waits_for_the_batch_too(newest):
    asked = step("two", observed("one"), STEADY, NOW)
    assert step(newest, observed("one"), asked.state, NOW + TICK).action is Action.STOP


def test_an_unhealthy_application_has_no_batch_to_wait_for():
    assert step("two", observed("one", healthy=False), STEADY, NOW).action is Action.APPLY


def test_a_change_reverted_while_stopping_is_applied_at_once():
    asked = step("two", observed("one"), STEADY, NOW)
    assert step("one", observed("one"), asked.state, NOW + TICK).action is Action.APPLY


def failing():
    """Memory of an application whose second spec was just applied."""
    asked = step("two", observed("one"), STEADY, NOW)
    return step("two", observed("one", stopped=True), asked.state, NOW).state


def test_a_spec_that_does_not_become_healthy_is_rolled_back_once_and_left_alone():
    state = failing()
    unhealthy = observed("two", healthy=False)
    assert step("two", unhealthy, state, NOW + START_TIMEOUT - TICK).action is Action.KEEP
    rolled_back = step("two", unhealthy, state, NOW + START_TIMEOUT)
    assert rolled_back.action is Action.ROLL_BACK
    assert (rolled_back.state.trying, rolled_back.state.refused) == ("one", "two")
    retried = step("two", unhealthy, rolled_back.state, NOW + START_TIMEOUT + TICK)
    assert retried.action is Action.ROLL_BACK
    recovered = step("two", observed("one"), retried.state, NOW + START_TIMEOUT + 2 * TICK)
    assert recovered.action is Action.KEEP
    later = step("two", observed("one"), recovered.state, NOW + 10 * COOL_DOWN)
    assert later.action is Action.KEEP
    assert "until the spec changes" in later.message
    assert step("two", observed("", stopped=True), later.state, NOW + 10 * COOL_DOWN).action is Action.ROLL_BACK


def test_after_a_rollback_another_spec_is_tried_and_the_failed_one_is_forgotten():
    rolled_back = step("two", observed("two", healthy=False), failing(), NOW + START_TIMEOUT)
    recovered = step("two", observed("one"), rolled_back.state, NOW + START_TIMEOUT)
    assert step("three", observed("one"), recovered.state, NOW + START_TIMEOUT).action is Action.STOP
    reverted = step("one", observed("one"), recovered.state, NOW + START_TIMEOUT)
    assert (reverted.action, reverted.state.refused) == (Action.KEEP, "")


@pytest.mark.parametrize("newest", ["a", "three", "z"])
def test_a_newer_spec_replaces_one_that_is_still_starting(newest):
    next_step = step(newest, observed("two", healthy=False), failing(), NOW + TICK)
    assert (next_step.action, next_step.state.trying, next_step.state.stable) == (Action.APPLY, newest, "one")


@pytest.mark.parametrize("newest", ["a", "three", "z"])
def test_a_newer_spec_replaces_a_rollback_and_what_was_refused_is_forgotten(newest):
    state = RolloutState("starting", at(), trying="one", stable="one", refused="two")
    next_step = step(newest, observed("one", healthy=False), state, NOW + TICK)
    assert next_step.action is Action.APPLY
    assert next_step.state == RolloutState("starting", at(10), trying=newest, stable="one")


def test_a_first_spec_that_never_becomes_healthy_has_nothing_to_roll_back_to():
    first = step("one", observed("", stopped=True), RolloutState(), NOW)
    next_step = step("one", observed("one", healthy=False), first.state, NOW + 2 * START_TIMEOUT)
    assert next_step.action is Action.KEEP
    assert "no earlier spec" in next_step.message


@pytest.mark.parametrize("spec", ["a", "two"])
def test_an_apply_that_a_stopped_operator_did_not_make_is_made_by_the_next(spec):
    state = RolloutState("starting", at(), trying=spec, stable="one")
    next_step = step(spec, observed("one"), state, NOW + TICK)
    assert (next_step.action, next_step.state) == (Action.APPLY, state)


def test_an_application_deleted_by_a_user_is_recreated():
    next_step = step("one", observed("", healthy=False, stopped=True), STEADY, NOW)
    assert (next_step.action, next_step.state.trying) == (Action.APPLY, "one")


@pytest.mark.parametrize("stable", ["a", "z"])
def test_of_an_application_deleted_after_a_rollback_the_stable_spec_is_recreated(stable):
    state = RolloutState("steady", "", trying=stable, stable=stable, refused="two")
    next_step = step("two", observed("", stopped=True), state, NOW)
    assert next_step.action is Action.ROLL_BACK
    assert next_step.state == RolloutState("starting", at(), trying=stable, stable=stable, refused="two")


@pytest.mark.parametrize("newest", ["a", "three", "z"])
def test_a_new_spec_of_an_application_deleted_after_a_rollback_is_tried(newest):
    state = RolloutState("steady", "", trying="one", stable="one", refused="two")
    next_step = step(newest, observed("", stopped=True), state, NOW)
    assert (next_step.action, next_step.state.trying, next_step.state.refused) == (Action.APPLY, newest, "")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.integers(0, 900)), max_size=40))
def test_every_history_converges_to_the_desired_or_the_stable_spec(history):
    """Health is random while specs change; then the last spec is healthy, and is running or was rolled back."""
    state, running, now = RolloutState(), "", NOW
    for desired, healthy, stopped, wait in history:
        now += timedelta(seconds=wait)
        state, running = _obey(step(desired, ApplicationState(running, healthy, stopped), state, now), desired, running)
    last = history[-1][0] if history else "a"
    for _ in range(5):
        now += TICK
        next_step = step(last, ApplicationState(running, True, True), state, now)
        state, running = _obey(next_step, last, running)
    assert next_step.action is Action.KEEP
    assert state.stage == "steady"
    assert running == last or (state.refused == last and running == state.stable)
    assert RolloutState.parse(state.document()) == state


def _obey(next_step, desired, running):
    match next_step.action:
        case Action.APPLY:
            running = desired
        case Action.ROLL_BACK:
            running = next_step.state.stable
    return next_step.state, running


def test_fields_of_a_newer_operator_are_ignored():
    assert RolloutState.parse({"stable": "one", "mood": "good"}) == RolloutState(stable="one")


PENDING = Application("a", NOW, "PENDING_RERUN")


@pytest.mark.parametrize(
    ("application", "state", "expected"),
    [
        (
            replace(PENDING, state="RUNNING"),
            StuckState(at(-9999), at(-60)),
            (Action.KEEP, StuckState("", at(-60)), False),
        ),
        (replace(PENDING, state="COMPLETED"), StuckState(at(-9999)), (Action.KEEP, StuckState(), False)),
        (PENDING, StuckState(), (Action.KEEP, StuckState(at()), False)),
        (PENDING, StuckState(at(-299)), (Action.KEEP, StuckState(at(-299)), False)),
        (PENDING, StuckState(at(-300)), (Action.RECREATE, StuckState("", at()), False)),
        (PENDING, StuckState(at(-300), at(-1799)), (Action.KEEP, StuckState(at(-300), at(-1799)), True)),
        (PENDING, StuckState(at(-300), at(-1800)), (Action.RECREATE, StuckState("", at()), False)),
        (PENDING, StuckState(at(-300), at(-9999)), (Action.RECREATE, StuckState("", at()), False)),
    ],
)
def test_the_watchdog_recreates_a_stuck_application_at_a_limited_rate(application, state, expected):
    assert (STUCK_AFTER.total_seconds(), COOL_DOWN.total_seconds()) == (300, 1800)
    assert check_stuck(application, state, NOW) == expected


def test_the_watchdogs_limits_are_configurable():
    second = timedelta(seconds=1)
    assert check_stuck(PENDING, StuckState(at(-1)), NOW, second, 2 * second)[0] is Action.RECREATE
    assert check_stuck(PENDING, StuckState(at(-1), at(-1)), NOW, second, 2 * second)[2]
    assert check_stuck(PENDING, StuckState(at(-1), at(-2)), NOW, second, 2 * second)[0] is Action.RECREATE


def test_an_application_that_stays_stuck_is_recreated_twice_an_hour_at_most():
    state, recreations = StuckState(), 0
    for minute in range(24 * 60):
        action, state, _ = check_stuck(PENDING, state, NOW + timedelta(minutes=minute))
        recreations += action is Action.RECREATE
    assert 2 <= recreations <= 48


@pytest.mark.parametrize("state", [STEADY, replace(STEADY, stage="starting", since=at(), trying="two")])
def test_a_new_spec_is_not_tried_while_its_application_is_suspended_and_then_has_its_whole_time(state):
    running = observed(state.trying, healthy=False, stopped=True)
    long_after = NOW + 3 * START_TIMEOUT
    waiting = step("two", running, state, NOW, suspended=True)
    again = step("two", running, waiting.state, long_after, suspended=True)
    assert (waiting.action, again) == (Action.STOP, waiting)
    assert waiting.state.stable == "one"
    resumed = step("two", running, again.state, long_after)
    assert (resumed.action, resumed.state.trying) == (Action.APPLY, "two")
    starting = step("two", observed("two", healthy=False), resumed.state, long_after + START_TIMEOUT - TICK)
    assert starting.action is Action.KEEP
    failed = step("two", observed("two", healthy=False), starting.state, long_after + START_TIMEOUT)
    assert (failed.action, failed.state.refused) == (Action.ROLL_BACK, "two")


def test_a_steady_or_refused_spec_is_left_alone_while_its_application_is_suspended():
    refused = replace(STEADY, refused="two")
    stopped = observed("one", healthy=False, stopped=True)
    assert step("one", stopped, STEADY, NOW, suspended=True).action is Action.KEEP
    assert step("two", stopped, refused, NOW, suspended=True).state == refused
    for other in ("another", "zero"):
        assert step(other, stopped, refused, NOW, suspended=True).action is Action.STOP
