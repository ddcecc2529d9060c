"""Virtual time: an event loop that never waits, and the clocks of a simulated process."""

import asyncio
import heapq
import selectors
import sys
import time
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

import pytest

EPOCH = 1_700_000_000  # the wall clock, in seconds, when the virtual time is 0
_RESOLUTION = 1e-9


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: everything waits for something that cannot happen."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing is ready.

    With `shuffle`, callbacks that are ready at the same moment run in an order of its choice: any order in which a real
    loop may come to run tasks that do not wait for each other. What would run in a thread runs in the loop.
    """

    def __init__(self, shuffle: Random | None = None) -> None:
        super().__init__(selectors.SelectSelector())
        self.now = 1000.0
        self._shuffle = shuffle

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run a function as a callback, since a thread would bring its own order."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - whoever awaits the future takes it
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(work)
        return future

    def _run_once(self) -> None:
        ready, timers = self._ready, self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not ready and not self._stopping:
            if not timers:
                raise Deadlock
            self.now = max(self.now, timers[0]._when)
        while timers and timers[0]._when <= self.now + _RESOLUTION:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        if self._shuffle is not None and len(ready) > 1:
            handles = list(ready)
            self._shuffle.shuffle(handles)
            ready.clear()
            ready.extend(handles)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()


class Clock:
    """What the module `time` is to the ingest. `skew` is by how many seconds the wall clock is off."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.skew = 0.0

    def monotonic(self) -> float:
        """Return the virtual time in seconds."""
        return self._loop.time()

    def time_ns(self) -> int:
        """Return what the process takes for UTC, in nanoseconds."""
        return self.true_micros() * 1000 + int(self.skew * 1e6) * 1000

    def time(self) -> float:
        """Return what the process takes for UTC, in seconds."""
        return self.time_ns() / 1e9

    def true_micros(self) -> int:
        """Return UTC in microseconds, as the exchange has it."""
        return int((EPOCH + self._loop.time()) * 1e6)


def install(clock: Clock, patches: pytest.MonkeyPatch) -> None:
    """Replace the clock of every imported module of the ingest."""
    for name, module in list(sys.modules.items()):
        if name.startswith("k2.ingest.") and isinstance(vars(module).get("time"), ModuleType | Clock):
            assert module.time is time or isinstance(module.time, Clock)
            patches.setattr(module, "time", clock)
