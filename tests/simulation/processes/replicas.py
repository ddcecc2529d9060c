"""The processes of a feed: one, or two replicas that write to the same topics, each with a connection of its own."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.simulation.exchange import Exchange
from tests.simulation.judge import Judge
from tests.simulation.processes.process import Process


class Replica:
    """One place of a process, which is started again when it ended."""

    def __init__(
        self, number: int, make: Callable[[str], Process], exchange: Exchange, judge: Judge, trace: Callable[[str], Any]
    ) -> None:
        self.process: Process
        self.others: list[Replica] = []
        self.running = asyncio.Event()  # not while a fault has ended the process
        self._number, self._make, self._exchange, self._judge, self._trace = number, make, exchange, judge, trace
        self._outage = asyncio.Lock()

    def start(self, protocol: str = "") -> None:
        """Start a process."""
        self._trace(f"start {self._number}")
        self.running.set()
        self.process = self._make(protocol)
        self.process.start()

    async def restart(self, pause: float, durable: int | None = None, *, protocol: str = "") -> None:
        """End the process and start another one after a pause, perhaps in another protocol of the exchange.

        It is killed if a number of records is given: so many of those on their way still reach the log.
        """
        async with self._outage:
            self.running.clear()
            self._trace(f"stop {self._number}" if durable is None else f"kill {self._number} {durable}")
            if durable is None:
                await self.process.stop()
                self._exchange.drop_process(self.process)
            else:
                await self.kill(durable)
            await asyncio.sleep(pause)
            self.start(protocol)

    async def kill(self, durable: int) -> None:
        """Kill the process. What it had not stored is then in a gap, or another replica stores it."""
        self._exchange.drop_process(self.process)
        await self.process.kill(durable)
        alive = [other.process for other in self.others if other.process.alive]
        if any(self._judge.held_up(process) for process in alive):
            return
        for trade in self._judge.unaccounted(pending=bool(alive)):
            self._judge.violate(f"{trade} is neither in the log nor in a gap after a kill")
