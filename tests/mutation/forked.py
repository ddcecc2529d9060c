"""Run tests in forked processes that import a given source instead of a module's file."""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

import hypothesis
import pytest

# What the tests import and no mutant changes: imported once, before the forks.
_LIBRARIES: Final = """
    hypothesis.strategies pydantic pydantic_settings msgspec fastavro confluent_kafka.admin
    confluent_kafka.schema_registry pyspark.sql.functions pyarrow.compute pyiceberg.catalog.sql pyiceberg.io.pyarrow
    duckdb pandas sqlalchemy.dialects.sqlite kubernetes.client aiohttp structlog stamina yaml
""".split()
_KILLED: Final = -1  # the result of tests that ran too long
_OPTIONS: Final = """
    -x -q -p no:randomly -p no:cacheprovider -p no:xdist -p no:xdist.looponfail -p no:schemathesis
""".split()


@dataclass(frozen=True, slots=True)
class Job:
    """The tests of one module, and the source that it shall have."""

    file: str
    source: str
    tests: Sequence[str]


class _Mutated(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds and loads one module from a source in memory."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.file.partition("/src/")[2].removesuffix(".py").replace("/", "."), job.file)
        self._source = job.source.encode()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return (
            importlib.util.spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None
        )

    def get_data(self, path: str) -> bytes:
        return self._source

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError("never from the cache, never into it")


def preload() -> None:
    """Import what every forked process needs."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--markers", "--noconftest", *_OPTIONS])  # imports pytest's plugins
    # The same examples for every mutant; a failure is not reduced to the smallest example, which takes the longest.
    hypothesis.settings.register_profile(
        "mutation",
        phases=(hypothesis.Phase.generate,),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    if ours := [name for name in sys.modules if name.partition(".")[0] == "k2"]:
        raise RuntimeError(f"{', '.join(ours)}: imported before the forks, so no mutant of it would be")


def run(jobs: Sequence[Job], timeout: float, workers: int) -> list[tuple[int, float]]:
    """Return each job's exit code of pytest and its seconds. Tests that exceed `timeout` seconds are killed."""
    results: list[tuple[int, float]] = [(_KILLED, timeout)] * len(jobs)
    running: dict[int, tuple[int, float]] = {}  # the job's number and the time of its start, by process
    waiting = iter(range(len(jobs)))
    while True:
        while len(running) < workers and (number := next(waiting, None)) is not None:
            running[_fork(jobs[number])] = number, time.monotonic()
        if not running:
            return results
        for process, (number, began) in list(running.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                results[number] = os.waitstatus_to_exitcode(status), time.monotonic() - began
                del running[process]
            elif time.monotonic() - began > timeout:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
                del running[process]
        time.sleep(0.01)


def _fork(job: Job) -> int:
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    os.setsid()  # so that a timeout also ends what the tests started
    code = 1
    try:
        with Path(os.environ.get("K2_MUTATION_LOG", os.devnull)).open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.meta_path.insert(0, _Mutated(job))
        code = int(pytest.main([*_OPTIONS, "--hypothesis-profile=mutation", *job.tests]))
    finally:
        os._exit(code)
