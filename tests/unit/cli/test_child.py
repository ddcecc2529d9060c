"""Processes of an embedded platform: real ones, small."""

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
    """A child that runs a script, once it has written a line (unless it is to end at once)."""
    children: list[Child] = []

    async def start(script: str, name: str = "part", *, waits: bool = True) -> Child:
        child = Child(name, [sys.executable, "-u", "-c", script], {"TOLD": "yes"}, tmp_path / "logs" / f"{name}.log")
        children.append(child)
        await child.start()
        if waits:
            await eventually(lambda: bool(child.last_words()))
        return child

    yield start
    for child in children:
        await child.stop(0.0)


async def eventually(true: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def watched(child: Child, until: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not until():
        assert time.monotonic() < deadline
        await child.watch()
        await asyncio.sleep(0.005)


SLEEPS = "import os, time; print(os.environ['TOLD']); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
POLITE = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('flushed'), sys.exit({code})))\n"
    "print('up'); time.sleep(60)"
)


async def test_a_child_writes_to_its_log_and_is_told_its_environment(started: Start, tmp_path: Path):
    child = await started(SLEEPS)
    assert child.alive
    assert (tmp_path / "logs" / "part.log").read_text() == "yes\n"
    assert child.process is not None
    found = child.process.find()
    assert found is not None
    assert await child.watch() is False
    assert await child.stop(5.0) == -signal.SIGTERM
    assert not child.alive
    assert child.process is None


async def test_a_killed_child_is_started_again_in_the_same_log(
    started: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(child_module, "_RESTART_FIRST", 0.05)
    child = await started(SLEEPS)
    first = child.process
    assert first is not None
    found = first.find()
    assert found is not None
    found.kill()
    await watched(child, lambda: child.restarts == 1)
    assert child.alive
    assert child.process != first
    assert (child.code, child.failed) == (-signal.SIGKILL, "")
    log = tmp_path / "logs" / "part.log"
    await eventually(lambda: log.read_text() == "yes\nyes\n")


async def test_the_pause_before_a_restart_doubles_up_to_a_limit(started: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child_module, "_RESTART_FIRST", 0.1)
    monkeypatch.setattr(child_module, "_RESTART_LIMIT", 0.4)
    child = await started("raise SystemExit(1)", waits=False)
    pauses = []
    for restarts in range(1, 5):
        await watched(child, lambda: not child.alive and bool(child._retry_at))
        pauses.append(child._retry_at - time.monotonic())
        await watched(child, lambda restarts=restarts: child.restarts == restarts)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.4], abs=0.05)


async def test_a_child_that_ran_long_is_started_again_without_a_long_pause(
    started: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(child_module, "_RESTART_FIRST", 0.05)
    monkeypatch.setattr(child_module, "_STEADY", 0.0)
    child = await started("raise SystemExit(1)", waits=False)
    child._pause = 30.0
    await watched(child, lambda: child.restarts == 1, within=5.0)


@pytest.mark.parametrize("code", [2, 3])
async def test_a_child_that_says_why_it_cannot_run_is_believed(started: Start, code: int):
    child = await started(f"print('one'); print('--port 1: in use'); raise SystemExit({code})", waits=False)
    await watched(child, lambda: bool(child.failed))
    assert (child.failed, child.code, child.restarts) == ("--port 1: in use", code, 0)
    assert await child.watch() is False
    assert not child.alive


async def test_a_child_that_ends_silently_still_has_a_reason(started: Start):
    child = await started("raise SystemExit(2)", waits=False)
    await watched(child, lambda: bool(child.failed))
    assert child.failed == "ended with 2"


async def test_a_child_that_does_not_stop_in_time_is_killed(started: Start):
    child = await started(STUBBORN)
    began = time.monotonic()
    assert await child.stop(0.3) == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 5.0


@pytest.mark.parametrize("code", [0, 1])
async def test_a_child_is_given_time_to_flush_and_its_exit_code_is_told(started: Start, code: int):
    child = await started(POLITE.format(code=code))
    assert await child.stop(10.0) == code
    assert child.last_words() == "flushed"
    assert await child.stop(10.0) == code


async def test_stopping_what_never_started_is_nothing(tmp_path: Path):
    child = Child("part", ["/nonexistent"], {}, tmp_path / "part.log")
    assert await child.stop(1.0) == 0
    assert child.last_words() == ""


TELLS = (
    "import signal, sys, time\n"
    "def told(*_):\n"
    "    time.sleep(0.1); open({order!r}, 'a').write({name!r} + '\\n'); sys.exit()\n"
    "signal.signal(signal.SIGTERM, told)\n"
    "print('up'); time.sleep(60)"
)


async def test_leftovers_are_stopped_readers_of_the_broker_first(started: Start, tmp_path: Path):
    order, told = tmp_path / "order", []
    parts = ["broker", "jobs", "simulator-one", "ingest-one-0-0"]
    children = {name: await started(TELLS.format(order=str(order), name=name), name) for name in parts}
    left = {name: child.process for name, child in children.items()}
    await supervisor.reap(State(children={**left, "gone": Process(2**22 - 1, 1.0)}), told.append)
    assert order.read_text().splitlines() == ["ingest-one-0-0", "simulator-one", "jobs", "broker"]
    assert [line.split(" was left running")[0] for line in told] == order.read_text().splitlines()


async def test_a_leftover_that_does_not_stop_is_killed(started: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "_INGEST_GRACE", 0.2)
    child = await started(STUBBORN)
    await supervisor.reap(State(children={"jobs": child.process}), lambda _: None)
    assert await asyncio.wait_for(child._process.wait(), 5.0) == -signal.SIGKILL
