"""Start processes on chosen cores, measure their CPU and memory, and end them in every case."""

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

Result = TypeVar("Result")


class BenchFailed(RuntimeError):
    """A benchmark cannot run; the message says why."""


def cores() -> tuple[set[int], set[int]]:
    """Return the core of the measured process and those of all others; the same core if there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """Start processes of this thread on these cores, within the context."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(
    command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, on: set[int] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process with its output in a log; kill it and its children at the end."""
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
    """Return a command line of this interpreter."""
    return [sys.executable, *words]


def output(what: str, *words: str, env: Mapping[str, str]) -> str:
    """Run a command of this interpreter and return its output. Raises `BenchFailed` with the end of its errors."""
    done = subprocess.run(python(*words), capture_output=True, text=True, check=False, env={**os.environ, **env})
    if done.returncode:
        raise BenchFailed(f"{what}: {done.stderr.strip()[-500:]}")
    return done.stdout


def end(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to the processes that still run."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def tree(pids: Iterable[int]) -> list[psutil.Process]:
    """Return these processes and all of their descendants."""
    processes: dict[int, psutil.Process] = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(pid)
            for process in (parent, *parent.children(recursive=True)):
                processes[process.pid] = process
    return list(processes.values())


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the user and system seconds of these processes so far, ended children included."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def pss(processes: Iterable[psutil.Process]) -> int:
    """Return the proportional set size (PSS) of these processes in bytes."""
    total = 0
    for process in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total


def until(
    what: str,
    check: Callable[[], Result],
    within: float,
    every: float = 0.1,
    by: tuple[subprocess.Popen[Any], Path] | None = None,
) -> Result:
    """Return the first true result of `check`.

    Raises `BenchFailed` after `within` seconds, or as soon as the process `by` that should produce it has ended.
    """
    deadline = time.monotonic() + within
    while not (result := check()):
        if by is not None:
            alive(*by)
        if time.monotonic() > deadline:
            raise BenchFailed(f"timed out after {within:.0f} s waiting for {what}")
        time.sleep(every)
    return result


def alive(process: subprocess.Popen[Any], log: Path) -> None:
    """Raise `BenchFailed` with the last line of the log if a process has ended."""
    if process.poll() is not None:
        raise BenchFailed(f"{log.stem} exited with {process.returncode}: {last_line(log)}")


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
    return lines[-1][:500] if lines else "no output"
