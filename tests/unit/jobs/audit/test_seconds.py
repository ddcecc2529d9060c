"""Seconds of an hour by verdict: of neighbouring records, of overlapping connections, across hours."""

import random
from collections import Counter

import pytest

from k2.jobs.audit.completeness.seconds import Run, is_lossy, is_verified, seconds

SECOND = 1_000_000
HOUR = 3600 * SECOND
START = 500_000 * HOUR


def run(start: float, end: float, verdict: str = "verified", symbol: str = "BTCUSDT") -> Run:
    """Return a run, with times in seconds after `START`."""
    return Run(symbol, START + round(start * SECOND), START + round(end * SECOND), verdict)


def test_time_is_that_of_the_best_connection_and_missing_where_there_is_none():
    runs = [
        run(0, 100),
        run(50, 200, "suspect"),
        run(150, 160, "unverifiable"),
        run(300, 310),
        run(305, 307, "suspect"),
    ]
    assert seconds(runs) == {("BTCUSDT", START): {"missing": 100, "suspect": 90, "unverifiable": 10, "verified": 110}}


def test_a_time_is_divided_among_the_hours_that_it_reaches_into():
    assert seconds([run(3500, 2 * 3600 + 5), run(3 * 3600, 3 * 3600 + 1)]) == {
        ("BTCUSDT", START): {"verified": 100},
        ("BTCUSDT", START + HOUR): {"verified": 3600},
        ("BTCUSDT", START + 2 * HOUR): {"missing": 3595, "verified": 5},
        ("BTCUSDT", START + 3 * HOUR): {"verified": 1},
    }


def test_begun_seconds_are_lost_and_symbols_are_apart():
    runs = [run(0, 9.9), run(10.2, 20), run(0, 5.5, "suspect", "ETHUSDT"), run(5.5, 6, "unverifiable", "ETHUSDT")]
    hours = seconds(runs)
    assert hours == {
        ("BTCUSDT", START): {"missing": 1, "verified": 19},
        ("ETHUSDT", START): {"suspect": 6, "unverifiable": 0},
    }
    assert all(map(is_lossy, hours.values()))
    assert not is_verified({"verified": 3599, "unverifiable": 0})
    assert is_verified({"verified": 3600, "silence": 3})


@pytest.mark.parametrize("seed", range(50))
def test_every_second_has_the_best_verdict_of_that_second(seed: int):
    rng = random.Random(seed)
    names = ("verified", "unverifiable", "suspect")
    runs = []
    for _ in range(rng.randint(1, 12)):
        start = rng.randint(0, 4 * 3600)
        runs.append(run(start, start + rng.randint(1, 5000), rng.choice(names)))
    expected: Counter[tuple[int, str]] = Counter()
    first, last = min(one.start for one in runs), max(one.end for one in runs)
    for at in range(first, last, SECOND):
        there = {one.verdict for one in runs if one.start <= at < one.end}
        verdict = next((name for name in names if name in there), "missing")
        expected[at - at % HOUR, verdict] += 1
    actual = {(hour, name): count for (_, hour), of_hour in seconds(runs).items() for name, count in of_hour.items()}
    assert actual == dict(expected)
