"""The embedded platform: starts the parts in order, starts what dies again, and stops them so that nothing is lost."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from aiohttp import web

from k2.cli.embedded import broker, integrity, plan, state
from k2.cli.embedded.child import Child
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.plan import API, CONTROLLER, JOBS, KAFKA, REGISTRY, Options
from k2.cli.embedded.ports import HOST, choose
from k2.cli.embedded.registry import application
from k2.cli.embedded.schema_store import SchemaStore
from k2.cli.embedded.state import Process, State
from k2.jobs.spark.jvm.java import Java
from k2.schemas.feed.model import ExchangeFeed

BROKER: Final = "broker"
_WATCH_EVERY: Final = 0.25
_INGEST_GRACE: Final = 30.0
_DRAIN_GRACE: Final = 600.0
_API_GRACE: Final = 15.0
_BROKER_GRACE: Final = 60.0
_SIMULATED_FOR: Final = 86_400.0

Tell = Callable[[str], None]


class Stopped(RuntimeError):
    """The platform cannot go on; `code` is the exit code, the text says why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class Supervisor:
    """One platform in one folder. `start`, then `watch` until it is time, then `stop`."""

    def __init__(self, layout: Layout, feeds: Sequence[ExchangeFeed], options: Options, java: Java, tell: Tell) -> None:
        self.state = State()
        self._layout = layout
        self._feeds = list(feeds)
        self._options = options
        self._java = java
        self._tell = tell
        self._lock: Any = None
        self._registry: web.AppRunner | None = None
        self._children: dict[str, Child] = {}
        self._env: dict[str, str] = {}

    async def start(self) -> None:
        """Starts every part. Raises `Unusable`, `UnreadableState`, `PortInUse`, `Stopped`; nothing runs afterwards."""
        integrity.check(self._layout)
        self._lock = integrity.claim(self._layout)
        before = state.load(self._layout.state)
        await reap(before, self._tell)
        wanted = plan.parts(self._feeds, self._options)
        self.state.ports = choose(wanted, wanted=self._options.ports, before=before.ports)
        self.state.supervisor, self.state.started_at = Process.of(os.getpid()), time.time()
        self.state.simulated_since = self._opening(before)
        self.state.feeds = [feed.name for feed in self._feeds]
        ports = self.state.ports
        self._env = plan.environment(self._layout.platform(kafka_port=ports[KAFKA], registry_port=ports[REGISTRY]))
        try:
            await self._start_services()
            await self._start_pipeline()
        except BaseException:
            await self.stop()
            raise

    async def watch(self, stop: asyncio.Event, limit: float = 0.0) -> None:
        """Keeps the parts alive until `stop` is set or `limit` seconds have passed. Raises `Stopped`."""
        deadline = time.monotonic() + limit if limit else float("inf")
        while not stop.is_set() and time.monotonic() < deadline:
            changed = [child.name for child in list(self._children.values()) if await child.watch()]
            for name in changed:
                self._changed(self._children[name])
            if changed:
                self._save()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_WATCH_EVERY, max(0.0, deadline - time.monotonic()))):
                    await stop.wait()

    async def stop(self) -> int:
        """Sockets close, buffers flush, layers catch up, the broker goes last. Returns 1 if a part did not end well."""
        ingest = [child for name, child in self._children.items() if name.startswith("ingest-")]
        bad = [
            child.name
            for child, code in zip(
                ingest, await asyncio.gather(*(child.stop(_INGEST_GRACE) for child in ingest)), strict=True
            )
            if code and not child.failed
        ]
        if (jobs := self._children.get(JOBS)) is not None:
            self._tell("the layers catch up")
            await self._revive_broker()
            if await jobs.stop(_DRAIN_GRACE):
                bad.append(JOBS)
        simulators = [child for name, child in self._children.items() if name.startswith("simulator-")]
        await asyncio.gather(*(child.stop(5.0) for child in simulators))
        if (api := self._children.get(API)) is not None:
            await api.stop(_API_GRACE)
        if self._registry is not None:
            await self._registry.cleanup()
        if (kafka := self._children.get(BROKER)) is not None:
            await kafka.stop(_BROKER_GRACE)
        self.state.supervisor, self.state.children = None, {}
        state.save(self._layout.state, self.state)
        self._lock.close()
        for name in bad:
            self._tell(f"{name} did not stop well: {self._children[name].last_words()}")
        return 1 if bad else 0

    async def restart(self, part: str, command: Sequence[str]) -> None:
        """Replaces one part by another command, as the demo does to an exchange."""
        await self._children[part].stop(5.0)
        await self._start(part, command)

    async def _revive_broker(self) -> None:
        """The layers cannot catch up without the broker, should it have died just now."""
        kafka = self._children[BROKER]
        if not kafka.alive:
            await kafka.start()
            with contextlib.suppress(broker.BrokerFailed):  # the layers then say that they could not
                await broker.ready(kafka, self.state.ports[KAFKA])

    def _opening(self, before: State) -> float:
        """When the simulated exchanges began to trade: a second start goes on with the same market."""
        if not self._options.simulate:
            return before.simulated_since
        since = before.simulated_since or time.time()
        if time.time() - since > _SIMULATED_FOR:
            raise Stopped(2, f"the market simulated in {self._layout.root} is over a day old; choose another --data")
        return since

    async def _start_services(self) -> None:
        ports, layout = self.state.ports, self._layout
        try:
            await asyncio.to_thread(broker.prepare, self._java, layout.kafka, ports[KAFKA], ports[CONTROLLER])
            kafka = self._children[BROKER] = broker.child(self._java, layout.kafka, layout.log(BROKER))
            await kafka.start()
            self._save()
            self._registry = web.AppRunner(application(SchemaStore(layout.registry)), access_log=None)
            await self._registry.setup()
            await web.TCPSite(self._registry, HOST, ports[REGISTRY]).start()
            admin = await broker.ready(kafka, ports[KAFKA])
            await broker.create_topics(admin, self._feeds)
        except broker.BrokerFailed as error:
            raise Stopped(1, f"{error}; see {layout.log(BROKER)}{self._full()}") from error

    async def _start_pipeline(self) -> None:
        ports, files = self.state.ports, []
        self._layout.feeds.mkdir(exist_ok=True)
        for index, feed in enumerate(self._feeds):
            if self._options.simulate and not feed.spec.suspend:
                port = ports[plan.simulator(feed)]
                since = self.state.simulated_since
                await self._start(plan.simulator(feed), plan.simulator_command(feed, port, since, self._options))
                self._feeds[index] = plan.pointed(feed, port)
            files.append(self._written(self._feeds[index]))
        by_name = dict(zip((feed.name for feed in self._feeds), files, strict=True))
        if plan.active(self._feeds):
            await self._start(JOBS, plan.jobs_command(files, ports[JOBS], self._options))
        for shard in plan.shards(self._feeds):
            file = by_name[shard.feed.name]
            await self._start(shard.part, plan.ingest_command(shard, file, ports[shard.part], self._options))
        await self._start(API, plan.api_command(), plan.api_environment(ports[API]))
        self._save()

    def _written(self, feed: ExchangeFeed) -> Path:
        file = self._layout.feeds / f"{feed.name}.yaml"
        file.write_text(plan.written(feed), "utf-8")
        return file

    async def _start(self, part: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        env = {**self._env, **(more or {})}
        child = self._children[part] = Child(part, command, env, self._layout.log(part))
        await child.start()

    def _changed(self, child: Child) -> None:
        if child.failed:
            self.state.failed[child.name] = child.failed
            self._tell(f"{child.name} gave up: {child.failed}")
            running = [name for name in self._children if name.startswith("ingest-") and name not in self.state.failed]
            if child.name == JOBS or (child.name != API and not running):
                raise Stopped(child.code, child.failed)
        elif not child.alive:
            self._tell(f"{child.name} died ({child.code}) and is started again{self._full()}")

    def _full(self) -> str:
        return "; the disk is full: make room" if integrity.free(self._layout) < integrity.SCARCE else ""

    def _save(self) -> None:
        found = {name: child.process for name, child in self._children.items()}
        self.state.children = {name: process for name, process in found.items() if process is not None}
        with contextlib.suppress(OSError):  # on a full disk the platform goes on, and the next change is saved
            state.save(self._layout.state, self.state)


async def reap(found: State, tell: Tell) -> None:
    """Stops, in order, what a supervisor that was killed has left running."""
    left = {name: process for name, child in found.children.items() if (process := child.find()) is not None}
    order = sorted(left, key=lambda name: (name == BROKER, name == JOBS, name))
    for name in order:
        tell(f"{name} was left running by a k2 up that was killed; stopping it")
        with contextlib.suppress(psutil.NoSuchProcess):
            left[name].terminate()
            try:
                await asyncio.to_thread(left[name].wait, _INGEST_GRACE)
            except psutil.TimeoutExpired:
                left[name].kill()
