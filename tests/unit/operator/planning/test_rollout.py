"""A changed SparkApplication on its way in, and out again; and the watchdog of PENDING_RERUN."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.operator.observed.objects import Application
from k2.operator.planning.rollout import (
    COOL_DOWN,
    START_WITHIN,
    STOP_WITHIN,
    STUCK_AFTER,
    Action,
    Memory,
    Seen,
    Watch,
    step,
    watch,
)
from tests.unit.operator.conftest import NOW

TICK = timedelta(seconds=10)
STEADY = Memory("steady", "", trying="one", stable="one")


def at(seconds=0.0, **more):
    return (NOW + timedelta(seconds=seconds, **more)).isoformat(timespec="seconds")


def seen(running, *, healthy=True, stopped=False):
    return Seen(running, healthy, stopped)


def test_a_new_application_is_applied_and_stable_once_healthy():
    first = step("one", seen("", healthy=False, stopped=True), Memory(), NOW)
    assert first.action is Action.APPLY
    starting = step("one", seen("one", healthy=False), first.memory, NOW + TICK)
    assert (starting.action, starting.memory.stable) == (Action.KEEP, "")
    done = step("one", seen("one"), starting.memory, NOW + 2 * TICK)
    assert done.action is Action.KEEP
    assert done.memory == Memory("steady", "", trying="one", stable="one")


def test_while_nothing_changes_nothing_is_done_and_nothing_forgotten():
    assert step("one", seen("one"), STEADY, NOW) == step("one", seen("one"), STEADY, NOW + COOL_DOWN)
    assert step("one", seen("one"), STEADY, NOW).memory == STEADY
    assert step("one", seen("one", healthy=False), STEADY, NOW).memory == STEADY


def test_an_application_found_running_is_left_alone_and_stable_only_once_healthy():
    found = step("one", seen("one", healthy=False), Memory(), NOW)
    assert (found.action, found.memory.stable) == (Action.KEEP, "")
    assert step("one", seen("one"), found.memory, NOW).memory.stable == "one"


def test_a_healthy_application_is_stopped_before_another_spec_is_applied():
    asked = step("two", seen("one"), STEADY, NOW)
    assert asked.action is Action.STOP
    waiting = step("two", seen("one"), asked.memory, NOW + TICK)
    assert waiting.action is Action.STOP
    assert waiting.memory == asked.memory
    applied = step("two", seen("one", stopped=True), waiting.memory, NOW + 2 * TICK)
    assert applied.action is Action.APPLY
    done = step("two", seen("two"), applied.memory, NOW + 3 * TICK)
    assert (done.action, done.memory.stable, done.memory.stage) == (Action.KEEP, "two", "steady")


def test_a_batch_that_never_ends_is_waited_for_no_longer_than_the_deadline():
    asked = step("two", seen("one"), STEADY, NOW)
    just = NOW + STOP_WITHIN
    assert step("two", seen("one"), asked.memory, just - TICK).action is Action.STOP
    assert step("two", seen("one"), asked.memory, just).action is Action.APPLY


def test_what_does_not_work_has_no_batch_to_wait_for():
    assert step("two", seen("one", healthy=False), STEADY, NOW).action is Action.APPLY


def test_a_change_taken_back_while_stopping_is_applied_at_once():
    asked = step("two", seen("one"), STEADY, NOW)
    assert step("one", seen("one"), asked.memory, NOW + TICK).action is Action.APPLY


def failing():
    """Memory of an application whose second spec was just applied."""
    asked = step("two", seen("one"), STEADY, NOW)
    return step("two", seen("one", stopped=True), asked.memory, NOW).memory


def test_a_spec_that_does_not_become_healthy_is_rolled_back_once_and_left_alone():
    memory = failing()
    sick = seen("two", healthy=False)
    assert step("two", sick, memory, NOW + START_WITHIN - TICK).action is Action.KEEP
    back = step("two", sick, memory, NOW + START_WITHIN)
    assert back.action is Action.ROLL_BACK
    assert (back.memory.trying, back.memory.refused) == ("one", "two")
    again = step("two", sick, back.memory, NOW + START_WITHIN + TICK)
    assert again.action is Action.ROLL_BACK
    healed = step("two", seen("one"), again.memory, NOW + START_WITHIN + 2 * TICK)
    assert healed.action is Action.KEEP
    later = step("two", seen("one"), healed.memory, NOW + 10 * COOL_DOWN)
    assert later.action is Action.KEEP
    assert "until it changes" in later.message
    assert step("two", seen("", stopped=True), later.memory, NOW + 10 * COOL_DOWN).action is Action.ROLL_BACK


def test_after_a_roll_back_another_spec_is_tried_and_the_old_one_is_no_longer_refused():
    back = step("two", seen("two", healthy=False), failing(), NOW + START_WITHIN)
    healed = step("two", seen("one"), back.memory, NOW + START_WITHIN)
    assert step("three", seen("one"), healed.memory, NOW + START_WITHIN).action is Action.STOP
    home = step("one", seen("one"), healed.memory, NOW + START_WITHIN)
    assert (home.action, home.memory.refused) == (Action.KEEP, "")


def test_a_newer_spec_replaces_one_that_is_still_starting():
    found = step("three", seen("two", healthy=False), failing(), NOW + TICK)
    assert (found.action, found.memory.trying, found.memory.stable) == (Action.APPLY, "three", "one")


def test_a_first_spec_that_never_works_has_nothing_to_go_back_to():
    first = step("one", seen("", stopped=True), Memory(), NOW)
    found = step("one", seen("one", healthy=False), first.memory, NOW + 2 * START_WITHIN)
    assert found.action is Action.KEEP
    assert "no earlier spec" in found.message


def test_an_apply_that_an_ended_operator_did_not_do_is_done_by_the_next():
    found = step("two", seen("one"), failing(), NOW + TICK)
    assert (found.action, found.memory) == (Action.APPLY, failing())


def test_an_application_deleted_by_hand_comes_back():
    found = step("one", seen("", healthy=False, stopped=True), STEADY, NOW)
    assert (found.action, found.memory.trying) == (Action.APPLY, "one")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.integers(0, 900)), max_size=40))
def test_whatever_happens_the_application_settles_on_what_is_desired_or_on_what_worked(history):
    """Health is drawn while specs change; afterwards the last one works, and is reached or was refused."""
    memory, running, now = Memory(), "", NOW
    for desired, healthy, stopped, wait in history:
        now += timedelta(seconds=wait)
        memory, running = _obey(step(desired, Seen(running, healthy, stopped), memory, now), desired, running)
    last = history[-1][0] if history else "a"
    for _ in range(5):
        now += TICK
        found = step(last, Seen(running, True, True), memory, now)
        memory, running = _obey(found, last, running)
    assert found.action is Action.KEEP
    assert memory.stage == "steady"
    assert running == last or (memory.refused == last and running == memory.stable)
    assert Memory.parse(memory.document()) == memory


def _obey(found, desired, running):
    match found.action:
        case Action.APPLY:
            running = desired
        case Action.ROLL_BACK:
            running = found.memory.stable
    return found.memory, running


def test_what_a_newer_operator_remembers_is_no_trouble():
    assert Memory.parse({"stable": "one", "mood": "good"}) == Memory(stable="one")


PENDING = Application("a", NOW, "PENDING_RERUN")


@pytest.mark.parametrize(
    ("found", "memory", "expected"),
    [
        (replace(PENDING, state="RUNNING"), Watch(at(-9999), at(-60)), (Action.KEEP, Watch("", at(-60)), False)),
        (PENDING, Watch(), (Action.KEEP, Watch(at()), False)),
        (PENDING, Watch(at(-299)), (Action.KEEP, Watch(at(-299)), False)),
        (PENDING, Watch(at(-300)), (Action.RECREATE, Watch("", at()), False)),
        (PENDING, Watch(at(-300), at(-1799)), (Action.KEEP, Watch(at(-300), at(-1799)), True)),
        (PENDING, Watch(at(-300), at(-1800)), (Action.RECREATE, Watch("", at()), False)),
    ],
)
def test_the_watchdog_makes_an_application_anew_once_in_a_while(found, memory, expected):
    assert (STUCK_AFTER.total_seconds(), COOL_DOWN.total_seconds()) == (300, 1800)
    assert watch(found, memory, NOW) == expected


def test_the_watchdogs_patience_can_be_set():
    second = timedelta(seconds=1)
    assert watch(PENDING, Watch(at(-1)), NOW, second, 2 * second)[0] is Action.RECREATE
    assert watch(PENDING, Watch(at(-1), at(-1)), NOW, second, 2 * second)[2]
    assert watch(PENDING, Watch(at(-1), at(-2)), NOW, second, 2 * second)[0] is Action.RECREATE


def test_an_application_that_is_stuck_for_ever_is_made_anew_twice_an_hour_at_most():
    memory, made = Watch(), 0
    for minute in range(24 * 60):
        action, memory, _ = watch(PENDING, memory, NOW + timedelta(minutes=minute))
        made += action is Action.RECREATE
    assert 2 <= made <= 48
