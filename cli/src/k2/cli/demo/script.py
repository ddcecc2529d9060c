"""The demo's script: start the platform, inject faults at fixed times, stop it."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from k2.cli.demo.screen import Screen
from k2.cli.embedded import status
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.plan import API, simulator
from k2.cli.embedded.ports import HOST
from k2.cli.embedded.supervisor import Supervisor
from k2.schemas.feed.model import ExchangeFeed

_POLL_SECONDS: Final = 1.0
_WARM_UP_TIMEOUT: Final = 90.0

Emitted = dict[tuple[str, str], set[str]]  # label and symbol: trade ids


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """A fault to inject at a fraction of the demo's duration."""

    at: float
    description: str
    inject: Callable[[], Awaitable[None]]


class Demo:
    """One run. `last` is the last status of the feeds before the stop."""

    def __init__(self, supervisor: Supervisor, layout: Layout, screen: Screen, duration: float, *, live: bool) -> None:
        self.last: list[status.FeedStatus] = []
        self._supervisor = supervisor
        self._layout = layout
        self._screen = screen
        self._duration = duration
        self._live = live
        self._feeds: list[ExchangeFeed] = []

    async def run(self) -> Emitted:
        """Run the platform with its faults; return the trades that the simulated exchanges had emitted by the end."""
        with self._screen:
            self._screen.log("starting a Kafka broker, a schema registry, Spark and three feeds")
            await self._supervisor.start()
            self._screen.log(f"the console: http://{HOST}:{self._supervisor.state.ports[API]}/console/")
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
            self._feeds = status.feeds(self._layout, self._supervisor.state)
            watch_task = asyncio.create_task(self._supervisor.watch(stop))
            try:
                script_task = asyncio.create_task(self._run_script(stop))
                await asyncio.wait([watch_task, script_task], return_when=asyncio.FIRST_COMPLETED)
                stop.set()
                await script_task
                emitted = {} if self._live else await self._emitted()
                await watch_task
            finally:
                self._screen.log("stopping: closing sockets, flushing buffers, draining the layers")
                await self._supervisor.stop()
            return emitted

    async def _run_script(self, stop: asyncio.Event) -> None:
        await self._until(stop, _WARM_UP_TIMEOUT, lambda: all(row.rows.get("gold") for row in self.last))
        self._screen.log("every feed has reached Gold")
        began, pending = time.monotonic(), self._faults()
        while not stop.is_set() and (elapsed := time.monotonic() - began) < self._duration:
            for fault in [each for each in pending if elapsed >= each.at * self._duration]:
                self._screen.log(fault.description)
                await fault.inject()
                pending.remove(fault)
            await self._until(stop, _POLL_SECONDS, lambda: False)
        await self._until(stop, 20.0, lambda: not any(row.open_gaps for row in self.last))

    def _faults(self) -> list[ScheduledFault]:
        first, second, third = self._feeds
        delisted = third.names[-1].raw_symbol
        if self._live:
            return [ScheduledFault(0.4, f"kill -9 of the ingest of {first.name}", lambda: self._kill(first))]
        return [
            ScheduledFault(0.15, f"{first.name} cuts every connection (1006)", lambda: self._fault(first, "close")),
            ScheduledFault(0.25, f"{third.name} delists {delisted}", lambda: self._fault(third, f"delist={delisted}")),
            ScheduledFault(
                0.5,
                f"{second.name} drops the next 40 trades, and answers REST with errors",
                lambda: self._fault(second, "passing=3", "drop=40"),
            ),
        ]

    async def _until(self, stop: asyncio.Event, timeout: float, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout
        while not stop.is_set() and time.monotonic() < deadline:
            self.last = await asyncio.to_thread(status.collect, self._feeds, self._supervisor.state)
            self._screen.update(self.last)
            if condition():
                return
            await asyncio.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))

    async def _fault(self, feed: ExchangeFeed, *faults: str) -> None:
        for fault in faults:
            await self._exchange(feed, "POST", "/_sim/faults", fault)

    async def _kill(self, feed: ExchangeFeed) -> None:
        process = self._supervisor.state.children[f"ingest-{feed.name}-0-0"].find()
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)

    async def _emitted(self) -> Emitted:
        emitted: Emitted = {}
        for feed in self._feeds:
            trades = await self._exchange(feed, "GET", "/_sim/emitted")
            for name in feed.names:
                emitted[feed.exchange_spec.label, name.symbol] = set(map(str, trades.get(name.raw_symbol, [])))
        return emitted

    async def _exchange(self, feed: ExchangeFeed, method: str, path: str, body: str = "") -> Any:
        port = self._supervisor.state.ports[simulator(feed)]
        async with (
            aiohttp.ClientSession(raise_for_status=True) as http,
            http.request(method, f"http://{HOST}:{port}{path}", data=body or None) as response,
        ):
            return await response.json() if method == "GET" else None
