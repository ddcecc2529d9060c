"""When a connection is given up, and how long the wait before the next is. Clocks are given."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.connection.liveness import Backoff, ConnectBudget, Liveness, Patience


def alive(**changed: float) -> Liveness:
    return Liveness(**({"stale_after": 30, "max_age": 3600, "opened_at": 1000} | changed))


def test_a_connection_silent_from_birth_is_stale():
    assert alive().close_reason(1029.9) is None
    assert alive().close_reason(1030) == "stale"


def test_every_frame_keeps_a_connection_alive():
    connection = alive()
    for now in range(1000, 2000, 29):
        assert connection.close_reason(now) is None
        connection.frame(now)


def test_an_old_connection_is_aged_however_well_it_lives():
    connection = alive()
    connection.frame(4600)
    assert connection.close_reason(4599.9) is None
    assert connection.close_reason(4600) == "aged"


def test_the_first_reconnect_is_immediate_and_the_next_waits_double_from_five_seconds_to_a_minute():
    backoffs = [Backoff(random.Random(seed)) for seed in range(50)]
    first = [backoff.next_delay() for backoff in backoffs]
    assert all(0 <= delay < 0.25 for delay in first)
    assert len(set(first)) > 40
    for expected in (5, 10, 20, 40, 60, 60):
        delays = [backoff.next_delay() for backoff in backoffs]
        assert all(expected * 0.8 <= delay <= expected * 1.2 for delay in delays)
        assert len(set(delays)) > 40


def test_an_exchange_that_asks_for_patience_is_not_called_at_once():
    backoff = Backoff(random.Random(1))
    assert 4 <= backoff.next_delay(at_once=False) <= 6
    assert 4 <= backoff.next_delay() <= 6


def test_after_very_many_attempts_the_wait_is_still_the_limit():
    backoff = Backoff(random.Random(1), attempts=10_000)
    assert 48 <= backoff.next_delay() <= 72


def test_data_resets_the_backoff():
    backoff = Backoff(random.Random(1))
    for _ in range(5):
        backoff.next_delay()
    backoff.reset()
    assert backoff.next_delay() < 0.25
    assert backoff.attempts == 1


@given(st.lists(st.floats(0, 5), min_size=20, max_size=60))
def test_no_period_has_more_attempts_than_the_budget(pauses):
    budget, now, attempts = ConnectBudget(3, 10.0), 0.0, list[float]()
    for pause in pauses:
        now += pause
        now += budget.take(now)
        attempts.append(now)
    assert all(later - earlier >= 10.0 - 1e-6 for earlier, later in zip(attempts, attempts[3:], strict=False))


def test_without_a_limit_no_attempt_waits():
    budget = ConnectBudget(0, 10.0)
    assert [budget.take(0) for _ in range(1000)] == [0.0] * 1000


def test_unanswered_symbols_cost_the_others_a_new_connection_ever_more_seldom():
    patience = Patience()
    assert not patience.exhausted((), 0)
    replaced = [now for now in range(0, 10_000, 100) if patience.exhausted({"A"}, now)]
    assert replaced == [0, 600, 1800, 4200, 9000]


@pytest.mark.parametrize("first", [0.05, 5.0])
def test_a_shorter_first_wait_shortens_the_jitter_too(first):
    assert all(Backoff(random.Random(seed), first).next_delay() <= min(first, 0.25) for seed in range(50))
