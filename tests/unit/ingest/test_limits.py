"""The budget, the circuit, the memory limit. Clocks are given."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.backfill.rate_limit import TokenBucket
from k2.ingest.exchanges.base import RestBudget
from k2.ingest.kafka.circuit_breaker import Circuit, State
from k2.ingest.memory import memory_limit


def test_a_burst_is_free_and_then_the_rate_holds():
    bucket = TokenBucket(RestBudget(rate=2, burst=4), now=100)
    assert [bucket.take(1, 100) for _ in range(6)] == [0, 0, 0, 0, 0.5, 1.0]
    assert bucket.take(1, 103) == 0


def test_a_rest_refills_no_more_than_the_burst():
    bucket = TokenBucket(RestBudget(rate=2, burst=4), now=0)
    bucket.take(4, 0)
    assert [bucket.take(1, 1000) for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_a_punishment_is_waited_out():
    bucket = TokenBucket(RestBudget(rate=2, burst=4), now=0)
    bucket.back_off(30, 0)
    assert bucket.take(1, 0) == 30.5
    assert TokenBucket(RestBudget(rate=2, burst=4), now=0).take(1, 0) == 0


@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 3)), max_size=50), st.floats(0.5, 100), st.floats(5, 50))
def test_no_more_is_ever_spent_than_burst_and_rate_allow(asks, rate, burst):
    bucket, now, spent, until = TokenBucket(RestBudget(rate, burst), now=0.0), 0.0, 0.0, 0.0
    for weight, pause in asks:
        now += pause
        until = max(until, now + bucket.take(weight, now))
        spent += weight
        assert spent <= burst + rate * until + 1e-6


def circuit() -> Circuit:
    return Circuit(capacity=100, patience=10, now=0)


def test_the_circuit_is_closed_while_kafka_acknowledges():
    found = circuit()
    for second in range(100):
        assert found.update(in_flight=79, acked=second, failing=False, now=second) is State.CLOSED


def test_the_circuit_opens_when_the_buffer_is_four_fifths_full():
    found = circuit()
    assert found.update(79, 1, failing=False, now=1) is State.CLOSED
    assert found.update(80, 2, failing=False, now=2) is State.OPEN


def test_the_circuit_opens_when_no_acknowledgement_comes_for_ten_seconds():
    found = circuit()
    found.update(5, 1, failing=False, now=0)
    assert found.update(5, 1, failing=False, now=9.9) is State.CLOSED
    assert found.update(5, 1, failing=False, now=10) is State.OPEN


def test_an_idle_producer_waits_for_nothing():
    found = circuit()
    assert found.update(0, 0, failing=False, now=1000) is State.CLOSED
    assert found.update(1, 0, failing=False, now=1005) is State.CLOSED


def test_refused_records_open_the_circuit_at_once():
    assert circuit().update(1, 5, failing=True, now=1) is State.OPEN


def test_the_circuit_closes_by_way_of_half_open_as_the_backlog_drains():
    found = circuit()
    found.update(90, 1, failing=False, now=1)
    states = [found.update(left, 2 + 90 - left, failing=False, now=2) for left in (79, 41, 40, 79)]
    assert states == [State.HALF_OPEN, State.HALF_OPEN, State.CLOSED, State.CLOSED]


@pytest.mark.parametrize(("text", "limit"), [("536870912\n", 536_870_912.0), ("max\n", math.inf)])
def test_the_memory_limit_is_the_containers(tmp_path, text, limit):
    file = tmp_path / "memory.max"
    file.write_text(text)
    assert memory_limit((str(tmp_path / "absent"), str(file))) == limit


def test_without_a_container_memory_is_not_limited(tmp_path):
    assert memory_limit((str(tmp_path / "absent"),)) == math.inf
