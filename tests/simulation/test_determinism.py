"""A seed is one history, in this process and in any other; and what is wrong in one is reported."""

import os
import random
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.seeds import report
from tests.simulation.world import Outcome, simulate

SEEDS = range(300, 305)  # one of each exchange, in order and shuffled
first = cache(simulate)


def elsewhere(seed: int, hash_seed: str) -> str:
    code = f"import sys; from tests.simulation.world import simulate; sys.stdout.write(simulate({seed}).trace)"
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path]),
    }
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_history(seed):
    assert first(seed) == simulate(seed)
    assert len(first(seed).trace) > 10_000


def test_other_threads_that_draw_random_numbers_change_nothing():
    stop = threading.Event()

    def draw() -> None:
        while not stop.wait(0.0001):
            random.random()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        assert first(303) == simulate(303)
    finally:
        stop.set()
        thread.join()


def test_a_history_is_the_same_in_a_process_with_other_hashes_of_texts():
    assert elsewhere(303, "1") == elsewhere(303, "2") == first(303).trace


def test_different_seeds_give_different_histories():
    assert len({first(seed).digest for seed in SEEDS}) == len(SEEDS)


def test_a_report_names_the_seed_its_violations_and_the_command():
    text = report(Outcome(7, "okx", ("cut", "kill"), ("BTCUSDT 5 is lost",), "", 100.0))
    assert "seed 7 (okx; cut, kill)" in text
    assert "BTCUSDT 5 is lost" in text
    assert "make simulation SEEDS=7 TRACE=1" in text
