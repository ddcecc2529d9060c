"""The token bucket of an exchange's REST budget, with a given clock."""

from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.backfill.rate_limit import TokenBucket
from k2.ingest.exchanges.base import RestBudget


def test_a_burst_is_free_and_then_the_rate_holds():
    bucket = TokenBucket(RestBudget(rate=2, burst=4), now=100)
    assert [bucket.take(1, 100) for _ in range(6)] == [0, 0, 0, 0, 0.5, 1.0]
    assert bucket.take(1, 103) == 0


def test_a_pause_refills_at_most_the_burst():
    bucket = TokenBucket(RestBudget(rate=2, burst=4), now=0)
    bucket.take(4, 0)
    assert [bucket.take(1, 1000) for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_a_back_off_is_waited_out():
    bucket = TokenBucket(RestBudget(rate=2, burst=4), now=0)
    bucket.back_off(30, 0)
    assert bucket.take(1, 0) == 30.5
    assert TokenBucket(RestBudget(rate=2, burst=4), now=0).take(1, 0) == 0


@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 3)), max_size=50), st.floats(0.5, 100), st.floats(5, 50))
def test_spending_never_exceeds_burst_and_rate(requests, rate, burst):
    bucket, now, spent, until = TokenBucket(RestBudget(rate, burst), now=0.0), 0.0, 0.0, 0.0
    for weight, pause in requests:
        now += pause
        until = max(until, now + bucket.take(weight, now))
        spent += weight
        assert spent <= burst + rate * until + 1e-6
