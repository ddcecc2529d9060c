"""Virtual time: an event loop that never waits, and the clocks of a simulated process."""

import asyncio
import heapq
import selectors
import sys
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from random import Random
from types import ModuleType
from typing import Any

import pytest

EPOCH = 1_700_000_000  # the wall clock, in seconds, when the virtual time is 0
_RESOLUTION = 1e-9


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: everything waits for something that cannot happen."""


class _Callback:
    """What the loop is to call, in place of asyncio's handles: a simulation makes a thousand of them a second."""

    __slots__ = ("args", "callback", "context", "gone")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None) -> None:
        self.callback, self.args, self.context, self.gone = callback, args, context or copy_context(), False

    def cancel(self) -> None:
        """Do not call it."""
        self.gone = True

    def cancelled(self) -> bool:
        """Return whether it is not to be called."""
        return self.gone


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing is ready.

    With `shuffle`, callbacks that are ready at the same moment run in an order of its choice: any order in which a real
    loop may come to run tasks that do not wait for each other. What would run in a thread runs in the loop.
    """

    def __init__(self, shuffle: Random | None = None) -> None:
        super().__init__(selectors.SelectSelector())
        self.now = 1000.0
        self._shuffle = shuffle
        self._callbacks: list[_Callback] = []
        self._timers: list[tuple[float, int, _Callback]] = []
        self._count = 0  # of timers: those of the same moment come in their order

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """Call something as soon as what is ready has run."""
        made = _Callback(callback, args, context)
        self._callbacks.append(made)
        return made

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """Call something at a virtual time."""
        made = _Callback(callback, args, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, made))
        return made

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """Call something after some virtual seconds."""
        return self.call_at(self.now + delay, callback, *args, context=context)

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
        ready, timers = self._callbacks, self._timers
        while timers and timers[0][2].gone:
            heapq.heappop(timers)
        if not ready and not self._stopping:
            if not timers:
                raise Deadlock
            self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now + _RESOLUTION:
            ready.append(heapq.heappop(timers)[2])
        self._callbacks = []
        if self._shuffle is not None and len(ready) > 1:
            self._shuffle.shuffle(ready)
        for each in ready:
            if not each.gone:
                self._call(each)

    def _call(self, each: _Callback) -> None:
        try:
            each.context.run(each.callback, *each.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio's handles do
            self.call_exception_handler({"message": f"Exception in callback {each.callback}", "exception": error})


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
