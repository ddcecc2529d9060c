"""Processes of a measurement: started on chosen cores, weighed, and ended whatever happens."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = Path(
    os.environ.get("K2_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k2"
)

Found = TypeVar("Found")


class BenchFailed(RuntimeError):
    """A measurement that cannot be made, and why."""


def cores() -> tuple[set[int], set[int]]:
    """The core of what is measured, and those of everything else; the same one where there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@contextmanager
def pinned(chosen: set[int]) -> Iterator[None]:
    """What this thread starts meanwhile runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(
    command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, on: set[int] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, its output in a log. It and its children are gone afterwards."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, pinned(on or os.sched_getaffinity(0)):
        process = subprocess.Popen(
            list(command), stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
            cwd=ROOT, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            end(tree([process.pid]))
        process.wait(30)


def python(*words: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *words]


def output(what: str, *words: str, env: Mapping[str, str]) -> str:
    """What a command of this interpreter prints. Raises `BenchFailed` with its last words, as those of `what`."""
    done = subprocess.run(python(*words), capture_output=True, text=True, check=False, env={**os.environ, **env})
    if done.returncode:
        raise BenchFailed(f"{what}: {done.stderr.strip()[-500:]}")
    return done.stdout


def end(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each of them that still runs."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def tree(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and everything that they started."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(pid)
            for process in (parent, *parent.children(recursive=True)):
                found[process.pid] = process
    return list(found.values())


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time that these processes have used so far, with that of children that ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def pss(processes: Iterable[psutil.Process]) -> int:
    """Bytes of memory of these processes; what several share is counted once, by shares."""
    total = 0
    for process in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total


def until(
    what: str,
    check: Callable[[], Found],
    within: float,
    every: float = 0.1,
    by: tuple[subprocess.Popen[Any], Path] | None = None,
) -> Found:
    """The first result of `check` that is true.

    Raises `BenchFailed` when it does not come in time, or as soon as the process `by` which it comes has ended.
    """
    deadline = time.monotonic() + within
    while not (found := check()):
        if by is not None:
            alive(*by)
        if time.monotonic() > deadline:
            raise BenchFailed(f"{what}: not within {within:.0f} s")
        time.sleep(every)
    return found


def alive(process: subprocess.Popen[Any], log: Path) -> None:
    """Raises `BenchFailed` with its last words if a process has ended."""
    if process.poll() is not None:
        raise BenchFailed(f"{log.stem} ended with {process.returncode}: {last_words(log)}")


def last_words(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
    return lines[-1][:500] if lines else "it said nothing"
