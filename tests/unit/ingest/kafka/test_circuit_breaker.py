"""The circuit breaker before Kafka, with a given clock."""

from k2.ingest.kafka.circuit_breaker import Circuit, State


def circuit() -> Circuit:
    return Circuit(capacity=100, ack_timeout=10, now=0)


def test_the_circuit_is_closed_while_kafka_acknowledges():
    breaker = circuit()
    for second in range(100):
        assert breaker.update(in_flight=79, acked=second, failing=False, now=second) is State.CLOSED


def test_the_circuit_opens_when_the_buffer_is_four_fifths_full():
    breaker = circuit()
    assert breaker.update(79, 1, failing=False, now=1) is State.CLOSED
    assert breaker.update(80, 2, failing=False, now=2) is State.OPEN


def test_the_circuit_opens_when_no_acknowledgement_comes_for_ten_seconds():
    breaker = circuit()
    breaker.update(5, 1, failing=False, now=0)
    assert breaker.update(5, 1, failing=False, now=9.9) is State.CLOSED
    assert breaker.update(5, 1, failing=False, now=10) is State.OPEN
    assert breaker.update(5, 1, failing=False, now=60) is State.OPEN


def test_before_the_first_acknowledgement_the_time_counts_from_the_start():
    assert circuit().update(5, 0, failing=False, now=9.9) is State.CLOSED
    assert circuit().update(5, 0, failing=False, now=10) is State.OPEN
    assert circuit().update(5, 1, failing=False, now=10) is State.CLOSED


def test_an_idle_producer_keeps_the_circuit_closed():
    breaker = circuit()
    assert breaker.update(0, 0, failing=False, now=1000) is State.CLOSED
    assert breaker.update(1, 0, failing=False, now=1005) is State.CLOSED


def test_rejected_records_open_the_circuit_at_once():
    assert circuit().update(1, 5, failing=True, now=1) is State.OPEN


def test_the_circuit_closes_through_half_open_as_the_backlog_drains():
    breaker = circuit()
    breaker.update(90, 1, failing=False, now=1)
    states = [breaker.update(in_flight, 2 + 90 - in_flight, failing=False, now=2) for in_flight in (79, 41, 40, 79)]
    assert states == [State.HALF_OPEN, State.HALF_OPEN, State.CLOSED, State.CLOSED]


def test_the_circuit_closes_at_once_if_the_backlog_is_below_two_fifths():
    breaker = circuit()
    breaker.update(90, 1, failing=False, now=1)
    assert breaker.update(39, 52, failing=False, now=2) is State.CLOSED


def test_the_states_are_the_values_of_the_metric():
    assert [(state.value, state.name) for state in State] == [(0, "CLOSED"), (1, "HALF_OPEN"), (2, "OPEN")]
