"""Mutation tests: change the pure cores of K2, one place at a time, and run their unit tests on each change.

A mutant exists only in the memory of a forked process, which imports its source instead of the file's. Prints each
module's mutants and every survivor. Arguments: parts of the paths of the modules to test; none for all of them.
"""

import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mutation import mutants
from tests.mutation.forked import Job, preload, run

_FOLDER: Final = Path(__file__).parent
_WORKERS: Final = int(os.environ.get("WORKERS", "2"))
_LEAST_KILLED: Final = 0.9


def _modules(parts: list[str]) -> list[dict[str, Any]]:
    modules = tomllib.loads((_FOLDER / "modules.toml").read_text())["module"]
    return [module for module in modules if not parts or any(part in module["file"] for part in parts)]


def _accepted() -> set[tuple[str, str, str]]:
    survivors = tomllib.loads((_FOLDER / "survivors.toml").read_text()).get("survivor", [])
    return {(each["file"], each["was"], each["now"]) for each in survivors if each["reason"]}


def _test(module: dict[str, Any], accepted: set[tuple[str, str, str]]) -> tuple[int, int, int]:
    """Return the numbers of mutants, of survivors and of those survivors that are not accepted."""
    file, began = module["file"], time.monotonic()
    source = Path(file).read_text()
    [(unchanged, seconds)] = run([Job(file, source, module["tests"])], timeout=300, workers=1)
    if unchanged != pytest.ExitCode.OK:
        sys.exit(f"{file}: its tests fail without a change: {' '.join(module['tests'])}")
    made = list(mutants.make(source, module.get("functions", ())))
    jobs = [Job(file, mutant.source, module["tests"]) for mutant in made]
    results = run(jobs, timeout=10 + 5 * seconds, workers=_WORKERS)
    if pytest.ExitCode.NO_TESTS_COLLECTED in {code for code, _ in results}:
        sys.exit(f"{file}: no test was collected: {' '.join(module['tests'])}")
    survivors = [mutant for mutant, (code, _) in zip(made, results, strict=True) if code == pytest.ExitCode.OK]
    unlisted = [each for each in survivors if (file, each.was, each.now) not in accepted]
    print(
        f"{file}: {len(made)} mutants, {len(made) - len(survivors)} killed, {len(survivors)} survived "
        f"({len(survivors) - len(unlisted)} listed), {time.monotonic() - began:.0f} s"
    )
    for each in unlisted:
        print(f"  survived: {file}:{each.line}\n    was = {each.was!r}\n    now = {each.now!r}")
    sys.stdout.flush()
    return len(made), len(survivors), len(unlisted)


def main(parts: list[str]) -> int:
    """Return 1 if too few mutants are killed, or if one survived that `survivors.toml` does not explain."""
    accepted = _accepted()
    preload()
    counts = [_test(module, accepted) for module in _modules(parts)]
    made, survived, unlisted = (sum(column) for column in zip(*counts, strict=True))
    killed = (made - survived) / made
    print(f"{made} mutants, {killed:.1%} killed, {unlisted} survivors are not listed in survivors.toml")
    return int(killed < _LEAST_KILLED or unlisted > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
