"""Child processes of an embedded platform, as real processes."""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from k2.cli.embedded import child as child_module
from k2.cli.embedded import supervisor
from k2.cli.embedded.child import Child
from k2.cli.embedded.state import Process, State

Start = Callable[..., Awaitable[Child]]


@pytest.fixture
async def started(tmp_path: Path):
    """Return a child that runs a script; wait for its first line unless `waits` is False."""
    children: list[Child] = []

    async def start(script: str, name: str = "part", *, waits: bool = True) -> Child:
        log = tmp_path / "logs" / f"{name}.log"
        child = Child(name, [sys.executable, "-u", "-c", script], {"GREETING": "yes"}, log)
        children.append(child)
        await child.start()
        if waits:
            # A line and its end are written one after the other; what comes between them would be of the same line.
            await eventually(lambda: log.read_text().endswith("\n"))
        return child

    yield start
    for child in children:
        await child.stop(0.0)


async def eventually(condition: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def watch_until(child: Child, until: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not until():
        assert time.monotonic() < deadline
        await child.watch()
        await asyncio.sleep(0.005)


SLEEPS = "import os, time; print(os.environ['GREETING']); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
GRACEFUL = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('flushed'), sys.exit({code})))\n"
    "print('up'); time.sleep(60)"
)


async def test_a_child_writes_to_its_log_and_has_its_environment(started: Start, tmp_path: Path):
    child = await started(SLEEPS)
    assert child.alive
    assert (tmp_path / "logs" / "part.log").read_text() == "yes\n"
    assert child.process is not None
    assert child.process.find() is not None
    assert await child.watch() is False
    assert await child.stop(5.0) == -signal.SIGTERM
    assert not child.alive
    assert child.process is None


async def test_a_killed_child_is_restarted_with_the_same_log(
    started: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(child_module, "_RESTART_DELAY", 0.05)
    child = await started(SLEEPS)
    first = child.process
    assert first is not None
    process = first.find()
    assert process is not None
    process.kill()
    await watch_until(child, lambda: child.restarts == 1)
    assert child.alive
    assert child.process != first
    assert (child.code, child.failed) == (-signal.SIGKILL, "")
    log = tmp_path / "logs" / "part.log"
    await eventually(lambda: log.read_text() == "yes\nyes\n")


async def test_the_restart_delay_doubles_up_to_a_limit(started: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child_module, "_RESTART_DELAY", 0.1)
    monkeypatch.setattr(child_module, "_MAX_RESTART_DELAY", 0.4)
    child = await started("raise SystemExit(1)", waits=False)
    for restarts, delay in enumerate([0.1, 0.2, 0.4, 0.4], start=1):
        assert child._restart_delay == delay
        before = time.monotonic()
        await watch_until(child, lambda: not child.alive and bool(child._retry_at))
        retry_at = child._retry_at
        assert retry_at >= before + delay
        await watch_until(child, lambda restarts=restarts: child.restarts == restarts)
        assert child._started_at >= retry_at


async def test_a_stable_child_is_restarted_with_the_shortest_delay(started: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child_module, "_RESTART_DELAY", 0.05)
    monkeypatch.setattr(child_module, "_STABLE_AFTER", 0.0)
    child = await started("raise SystemExit(1)", waits=False)
    child._restart_delay = 30.0
    await watch_until(child, lambda: child.restarts == 1, within=5.0)


@pytest.mark.parametrize("code", [2, 3])
async def test_a_child_that_exits_with_2_or_3_is_not_restarted(started: Start, code: int):
    child = await started(f"print('one'); print('--port 1: in use'); raise SystemExit({code})", waits=False)
    await watch_until(child, lambda: bool(child.failed))
    assert (child.failed, child.code, child.restarts) == ("--port 1: in use", code, 0)
    assert await child.watch() is False
    assert not child.alive


async def test_a_child_without_output_reports_its_exit_code(started: Start):
    child = await started("raise SystemExit(2)", waits=False)
    await watch_until(child, lambda: bool(child.failed))
    assert child.failed == "exited with code 2"


async def test_a_child_that_does_not_stop_in_time_is_killed(started: Start):
    child = await started(STUBBORN)
    began = time.monotonic()
    assert await child.stop(0.3) == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 5.0


@pytest.mark.parametrize("code", [0, 1])
async def test_a_child_has_time_to_flush_and_stop_returns_its_exit_code(started: Start, code: int):
    child = await started(GRACEFUL.format(code=code))
    assert await child.stop(10.0) == code
    assert child.last_log_line() == "flushed"
    assert await child.stop(10.0) == code


async def test_stopping_a_child_that_never_started_does_nothing(tmp_path: Path):
    child = Child("part", ["/nonexistent"], {}, tmp_path / "part.log")
    assert await child.stop(1.0) == 0
    assert child.last_log_line() == ""


RECORDS_ORDER = (
    "import signal, sys, time\n"
    "def stop(*_):\n"
    "    time.sleep(0.1); open({order!r}, 'a').write({name!r} + '\\n'); sys.exit()\n"
    "signal.signal(signal.SIGTERM, stop)\n"
    "print('up'); time.sleep(60)"
)


async def test_orphans_are_stopped_and_the_broker_last(started: Start, tmp_path: Path):
    order, reports = tmp_path / "order", []
    parts = ["broker", "jobs", "simulator-one", "ingest-one-0-0"]
    children = {name: await started(RECORDS_ORDER.format(order=str(order), name=name), name) for name in parts}
    orphans = {name: child.process for name, child in children.items()}
    await supervisor.reap(State(children={**orphans, "gone": Process(2**22 - 1, 1.0)}), reports.append)
    assert order.read_text().splitlines() == ["ingest-one-0-0", "simulator-one", "jobs", "broker"]
    assert [line.removeprefix("stopping ").split(",")[0] for line in reports] == order.read_text().splitlines()


async def test_an_orphan_that_does_not_stop_is_killed(started: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "_INGEST_GRACE", 0.2)
    child = await started(STUBBORN)
    await supervisor.reap(State(children={"jobs": child.process}), lambda _: None)
    assert await asyncio.wait_for(child._process.wait(), 5.0) == -signal.SIGKILL
