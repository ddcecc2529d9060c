"""When a connection is given up, and how long the wait before the next is. Clocks are given."""

import random

import pytest

from k2.ingest.connection.liveness import Backoff, Liveness


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


def test_heartbeats_do_not_excuse_a_liquid_symbol_that_stopped():
    connection = alive()
    for now in range(1000, 1010):
        connection.record("BTCUSDT", now)
    connection.frame(1038)
    assert connection.close_reason(1038.9) is None
    connection.frame(1039)
    assert connection.close_reason(1039) == "quiet"


def test_a_symbol_that_trades_seldom_may_pause():
    connection = alive()
    for now in (1000, 1020, 1040):
        connection.record("XYZUSDT", now)
    connection.frame(1100)
    assert connection.close_reason(1100) is None


def test_one_liquid_symbol_proves_the_connection_for_all():
    connection = alive()
    connection.record("XYZUSDT", 1000)
    for now in range(1000, 1100):
        connection.record("BTCUSDT", now)
        connection.frame(now)
    assert connection.close_reason(1100) is None


def test_a_pause_of_our_own_is_not_held_against_the_exchange():
    connection = alive()
    for now in range(1000, 1010):
        connection.record("BTCUSDT", now)
    connection.restart(1100)
    assert connection.close_reason(1129) is None
    assert connection.close_reason(1130) == "stale"


def test_an_old_connection_is_aged_however_well_it_lives():
    connection = alive()
    connection.frame(4600)
    assert connection.close_reason(4599.9) is None
    assert connection.close_reason(4600) == "aged"


def test_waits_double_from_five_seconds_to_a_minute_with_a_jitter_of_a_fifth():
    wait_for_client = [Backoff(random.Random(seed)) for seed in range(50)]
    for expected in (5, 10, 20, 40, 60, 60):
        delays = [backoff.next_delay() for backoff in wait_for_client]
        assert all(expected * 0.8 <= delay <= expected * 1.2 for delay in delays)
        assert len(set(delays)) > 40


def test_after_very_many_attempts_the_wait_is_still_the_limit():
    backoff = Backoff(random.Random(1), attempts=10_000)
    assert 48 <= backoff.next_delay() <= 72


def test_data_resets_the_backoff():
    backoff = Backoff(random.Random(1))
    for _ in range(5):
        backoff.next_delay()
    backoff.reset()
    assert backoff.next_delay() == pytest.approx(5, rel=0.2)
    assert backoff.attempts == 1
