"""Supervisor of the embedded platform: starts the parts in order, restarts them, and stops them without data loss."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from aiohttp import web

from k2.cli.embedded import broker, foreign_tables, integrity, plan, state
from k2.cli.embedded.child import Child
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.plan import API, CONTROLLER, JOBS, KAFKA, REGISTRY, Options
from k2.cli.embedded.ports import HOST, choose
from k2.cli.embedded.registry import application
from k2.cli.embedded.schema_store import SchemaStore
from k2.cli.embedded.state import Process, State
from k2.jobs.spark.jvm.java import Java
from k2.schemas import egress
from k2.schemas.feed.model import ExchangeFeed

BROKER: Final = "broker"
_POLL_SECONDS: Final = 0.25
_INGEST_GRACE: Final = 30.0
_DRAIN_GRACE: Final = 600.0
_API_GRACE: Final = 15.0
_BROKER_GRACE: Final = 60.0
_MAX_SIMULATED_SECONDS: Final = 86_400.0

Report = Callable[[str], None]


class Stopped(RuntimeError):
    """The platform cannot continue; `code` is the exit code, the message has the reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Supervisor:
    """One platform in one folder. Call `start`, then `watch`, then `stop`."""

    def __init__(
        self, layout: Layout, feeds: Sequence[ExchangeFeed], options: Options, java: Java, report: Report
    ) -> None:
        self.state = State()
        self._layout = layout
        self._feeds = list(feeds)
        self._options = options
        self._java = java
        self._report = report
        self._lock: Any = None
        self._registry: web.AppRunner | None = None
        self._children: dict[str, Child] = {}
        self._env: dict[str, str] = {}

    async def start(self) -> None:
        """Start every part. Raises `Unusable`, `UnreadableState`, `PortInUse`, `Stopped`, leaving nothing running."""
        integrity.check(self._layout)
        self._lock = integrity.lock(self._layout)
        previous = state.load(self._layout.state)
        await reap(previous, self._report)
        parts = plan.parts(self._feeds, self._options)
        self.state.ports = choose(parts, requested=self._options.ports, previous=previous.ports)
        self.state.supervisor, self.state.started_at = Process.of(os.getpid()), time.time()
        self.state.simulated_since = self._simulated_since(previous)
        self.state.feeds = [feed.name for feed in self._feeds]
        ports = self.state.ports
        platform = self._layout.platform(kafka_port=ports[KAFKA], registry_port=ports[REGISTRY])
        foreign_tables.write(self._layout.foreign_tables, platform)
        self._env = plan.environment(platform)
        try:
            await self._start_services()
            await self._start_pipeline()
        except BaseException:
            await self.stop()
            raise

    async def watch(self, stop: asyncio.Event, limit: float = 0.0) -> None:
        """Keep the parts running until `stop` is set or `limit` seconds have passed. Raises `Stopped`."""
        deadline = time.monotonic() + limit if limit else float("inf")
        while not stop.is_set() and time.monotonic() < deadline:
            changed = [child.name for child in list(self._children.values()) if await child.watch()]
            for name in changed:
                self._on_change(self._children[name])
            if changed:
                self._save()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic()))):
                    await stop.wait()

    async def stop(self) -> int:
        """Stop ingest, drain the layers, stop the rest, the broker last. Returns 1 unless all stopped cleanly."""
        ingest = [child for name, child in self._children.items() if name.startswith("ingest-")]
        failed = [
            child.name
            for child, code in zip(
                ingest, await asyncio.gather(*(child.stop(_INGEST_GRACE) for child in ingest)), strict=True
            )
            if code and not child.failed
        ]
        if (jobs := self._children.get(JOBS)) is not None:
            self._report("draining the layers")
            await self._revive_broker()
            if await jobs.stop(_DRAIN_GRACE):
                failed.append(JOBS)
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
        for name in failed:
            self._report(f"{name} did not stop cleanly: {self._children[name].last_log_line()}")
        return 1 if failed else 0

    async def restart(self, part: str, command: Sequence[str]) -> None:
        """Replace the process of one part by another command."""
        await self._children[part].stop(5.0)
        await self._start(part, command)

    async def _revive_broker(self) -> None:
        """Restart the broker if it is down: the layers cannot drain without it."""
        kafka = self._children[BROKER]
        if not kafka.alive:
            await kafka.start()
            with contextlib.suppress(broker.BrokerFailed):  # draining then fails and is reported
                await broker.ready(kafka, self.state.ports[KAFKA])

    def _simulated_since(self, previous: State) -> float:
        """Return when the simulated exchanges began to trade: a later start continues the same market."""
        if not self._options.simulate:
            return previous.simulated_since
        since = previous.simulated_since or time.time()
        if time.time() - since > _MAX_SIMULATED_SECONDS:
            raise Stopped(2, f"the simulated market in {self._layout.root} is over a day old; choose another --data")
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
                self._feeds[index] = plan.with_endpoint(feed, port)
            files.append(self._write_feed(self._feeds[index]))
        by_name = dict(zip((feed.name for feed in self._feeds), files, strict=True))
        if plan.active(self._feeds):
            await self._start(JOBS, plan.jobs_command(files, ports[JOBS], self._options))
        for shard in plan.shards(self._feeds):
            file, sharing = by_name[shard.feed.name], self._write_egress(shard.feed)
            await self._start(shard.part, plan.ingest_command(shard, file, sharing, ports[shard.part], self._options))
        await self._start(API, plan.api_command(), plan.api_environment(ports[API]))
        self._save()

    def _write_feed(self, feed: ExchangeFeed) -> Path:
        file = self._layout.feeds / f"{feed.name}.yaml"
        file.write_text(plan.to_yaml(feed), "utf-8")
        return file

    def _write_egress(self, feed: ExchangeFeed) -> Path:
        file = self._layout.feeds / f"{feed.name}.{egress.FILE}"
        file.write_text(egress.encode(plan.egress_processes(feed, self._feeds, self._options)), "utf-8")
        return file

    async def _start(self, part: str, command: Sequence[str], extra_env: Mapping[str, str] | None = None) -> None:
        env = {**self._env, **(extra_env or {})}
        child = self._children[part] = Child(part, command, env, self._layout.log(part))
        await child.start()

    def _on_change(self, child: Child) -> None:
        if child.failed:
            self.state.failed[child.name] = child.failed
            self._report(f"{child.name} gave up: {child.failed}")
            running = [name for name in self._children if name.startswith("ingest-") and name not in self.state.failed]
            if child.name == JOBS or (child.name != API and not running):
                raise Stopped(child.code, child.failed)
        elif not child.alive:
            self._report(f"{child.name} died with exit code {child.code}; restarting{self._full()}")

    def _full(self) -> str:
        return "; the disk is full: free some space" if integrity.free(self._layout) < integrity.LOW_DISK else ""

    def _save(self) -> None:
        processes = {name: child.process for name, child in self._children.items()}
        self.state.children = {name: process for name, process in processes.items() if process is not None}
        with contextlib.suppress(OSError):  # on a full disk the platform continues, and the next change is saved
            state.save(self._layout.state, self.state)


async def reap(previous: State, report: Report) -> None:
    """Stop, in order, the processes that a killed supervisor left running."""
    orphans = {name: process for name, child in previous.children.items() if (process := child.find()) is not None}
    order = sorted(orphans, key=lambda name: (name == BROKER, name == JOBS, name))
    for name in order:
        report(f"stopping {name}, left running by a killed k2 up")
        with contextlib.suppress(psutil.NoSuchProcess):
            orphans[name].terminate()
            try:
                await asyncio.to_thread(orphans[name].wait, _INGEST_GRACE)
            except psutil.TimeoutExpired:
                orphans[name].kill()
