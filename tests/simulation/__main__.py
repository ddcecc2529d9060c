"""`python -m tests.simulation SEEDS`: simulate histories and print those that go wrong.

SEEDS are numbers and ranges: `7`, `0-199`. With `--trace`, print everything that happens in each.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing import Pool

from tests.simulation.seeds import report
from tests.simulation.world import Outcome, simulate


def main() -> int:
    """Return 1 if a history goes wrong."""
    parser = argparse.ArgumentParser(prog="tests.simulation")
    parser.add_argument("seeds", nargs="+")
    parser.add_argument("--trace", action="store_true")
    arguments = parser.parse_args()
    seeds = [seed for text in arguments.seeds for seed in _seeds(text)]
    began, failed = time.monotonic(), 0
    for outcome in _outcomes(seeds):
        if arguments.trace:
            print(outcome.trace)
        if outcome.violations:
            failed += 1
            print(report(outcome))
            sys.stdout.flush()
    print(f"{len(seeds)} histories, {failed} went wrong, {time.monotonic() - began:.0f} s")
    return int(failed > 0)


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _outcomes(seeds: list[int]) -> Iterator[Outcome]:
    workers = min(len(seeds), int(os.environ.get("WORKERS", "1")))
    if workers <= 1:
        yield from map(simulate, seeds)
        return
    with Pool(workers) as pool:
        yield from pool.imap(simulate, seeds)


if __name__ == "__main__":
    sys.exit(main())
