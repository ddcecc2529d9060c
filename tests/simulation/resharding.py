"""A feed whose number of shards changes: the operator's rounds, and a cluster that carries them out in its own time.

The rounds are the operator's functions, the pods are simulated processes, and the ConfigMap reaches each of them late.
"""

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from random import Random
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
import structlog

from k2.ingest.network.client import HttpClient
from k2.ingest.network.proxies import Proxies
from k2.ingest.simulator.listings import pair_of
from k2.ingest.telemetry.load import LoadMeter
from k2.ingest.telemetry.server import shard_status
from k2.operator.desired import children
from k2.operator.desired.naming import SHARD
from k2.operator.observed import objects as parsers
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Observed, Shard
from k2.operator.planning import autoscale, resharding
from k2.operator.planning.plan import plan
from k2.operator.planning.watchdog import Watchdog
from k2.operator.settings import Settings
from k2.schemas import sharding
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.feed.shards import AUTO
from k2.schemas.sharding import Counts
from tests.simulation import clock as clocks
from tests.simulation.clock import EPOCH, Clock, VirtualLoop
from tests.simulation.exchange import Exchange, Market
from tests.simulation.judge import Judge
from tests.simulation.log import Log
from tests.simulation.processes.feed import FEED, Feed
from tests.simulation.processes.process import Process
from tests.simulation.sockets import Http
from tests.unit.operator.conftest import SETTINGS

ROUND = 5.0  # seconds between the operator's rounds
_WATCHED = frozenset({"ConfigMap", "Deployment"})
_FILE_DELAY = 30.0  # seconds that the kubelet takes at most to update a file
_MEASURED = 1.0  # seconds between two measurements of load
_POD_START = 5.0  # seconds that a pod takes at most to start
_SETTLED = 15.0  # seconds in which everything is in the log


class Pod:
    """One pod: a process, and the file that it has."""

    def __init__(self, name: str, shard: int) -> None:
        self.name, self.shard = f"{name}-6d4cf56db6-x2x9z", shard
        self.counts: Counts = ()
        self.process: Process | None = None  # none before it starts
        self.meter: LoadMeter | None = None


class Cluster:
    """The API server's objects of one feed, and their pods."""

    def __init__(
        self, feed: Feed, loop: VirtualLoop, rng: Random, make: Callable[[int, Callable[[], Counts]], Process],
        stop: Callable[[Process], Awaitable[None]], dropped: Callable[[Process], None],
    ) -> None:  # fmt: skip
        self.feed, self.target, self.changes = feed, 1, 0
        self.scale: autoscale.Scale | None = None
        self.pods: dict[str, Pod] = {}  # by Deployment
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._settings = Settings.model_validate(SETTINGS)
        self._watchdog = Watchdog(self._settings)
        self._loop, self._rng, self._make, self._stop, self._dropped = loop, rng, make, stop, dropped
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> Counts:
        """The numbers of shards in the ConfigMap."""
        return resharding.live_counts(self.feed.current, FeedObjects(tuple(self._objects.values())))

    def reports(self) -> tuple[Shard, ...]:
        """Return what the pods' status says."""
        running = [pod for pod in self.pods.values() if pod.process is not None]
        return tuple(
            parsers.shard(
                msgspec.to_builtins(
                    shard_status(
                        pod.process.stats, TRADES, feed=FEED, exchange=self.feed.exchange, shard=f"{pod.shard}-0"
                    )
                ),
                pod.name,
            )
            for pod in running
            if pod.process is not None
        )

    async def operate(self) -> None:
        """Run the operator's rounds until cancelled."""
        while True:
            self._round()
            await asyncio.sleep(ROUND)

    def _round(self) -> None:
        feed, now = self.feed.current, datetime.fromtimestamp(EPOCH + self._loop.time(), UTC)
        for name, pod in self.pods.items():
            ready = int(pod.process is not None and pod.process.stats.connected)
            self._objects["Deployment", name]["status"] = {"observedGeneration": 1, "replicas": 1} | {
                "updatedReplicas": 1, "readyReplicas": ready
            }  # fmt: skip
        objects, observed = FeedObjects(tuple(self._objects.values())), Observed(shards=self.reports())
        before = self.counts
        self.scale = autoscale.decide(feed, self.scale, before, autoscale.loads(feed, before, observed.shards), now)
        target = self.scale.count if feed.spec.ingest.shards == AUTO else self.target
        counts = resharding.next_counts(feed, before, target, objects, observed)
        desired = [each for each in children(feed, self._settings, counts=counts) if each["kind"] in _WATCHED]
        planned = plan(feed, desired, objects, {}, observed, self._watchdog, now)
        for manifest in planned.applies:
            self._apply(manifest)
        for raw in planned.deletes:
            self._delete(raw)
        if before and len(counts) == 1 and counts != before:
            self.changes += 1

    def _apply(self, manifest: dict[str, Any]) -> None:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        is_new = (kind, name) not in self._objects
        live = copy.deepcopy(manifest)
        live["metadata"]["generation"] = 1
        self._objects[kind, name] = live
        if kind == "ConfigMap":
            for pod in self.pods.values():
                self._loop.call_later(self._rng.uniform(0, _FILE_DELAY), self._update, pod)
        elif is_new:
            self.pods[name] = pod = Pod(name, int(manifest["metadata"]["labels"][SHARD]))
            self._loop.call_later(self._rng.uniform(1, _POD_START), self._start, name, pod)

    def _update(self, pod: Pod) -> None:
        pod.counts = sharding.decode(self._objects["ConfigMap", f"{FEED}-feed"]["data"][sharding.FILE])

    def _start(self, name: str, pod: Pod) -> None:
        if self.pods.get(name) is pod:
            self._update(pod)
            pod.process = self._make(pod.shard, lambda: pod.counts)
            pod.process.start()
            pod.meter = LoadMeter(pod.process.stats, _MEASURED, self._loop.time())

    def _delete(self, raw: Any) -> None:
        name = raw["metadata"]["name"]
        del self._objects[raw["kind"], name]
        if (process := self.pods.pop(name).process) is not None:
            task = self._loop.create_task(self._stop(process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def measure(self) -> None:
        """Let the pods measure their load until cancelled."""
        while True:
            await asyncio.sleep(_MEASURED)
            for pod in self.pods.values():
                if pod.meter is not None:
                    pod.meter.sample(self._loop.time())

    async def kill(self, name: str) -> None:
        """Kill the process of a Deployment's pod, which starts again."""
        pod = self.pods[name]
        process, pod.process, pod.meter = pod.process, None, None
        assert process is not None
        await process.kill(0)
        self._dropped(process)
        self._loop.call_later(self._rng.uniform(1, _POD_START), self._start, name, pod)

    async def end(self) -> None:
        """Stop all pods."""
        running = [pod.process for pod in self.pods.values() if pod.process is not None]
        await asyncio.gather(*[self._stop(process) for process in running], *self._tasks)


class Elastic:
    """One history of a feed whose number of shards changes."""

    def __init__(
        self, seed: int, exchange: str, rate: float, ingest: Mapping[str, Any], loop: VirtualLoop,
        patches: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        rng, self.loop = Random(seed), loop
        self.clock = Clock(loop)
        self.lines: list[str] = []
        self.judge = Judge(loop.time, self.trace)
        self.log = Log(loop, lambda: self.clock.time_ns() // 10**6, self.judge.appended)
        spec = EXCHANGES[exchange]
        symbols = [
            spec.separator.join((f"A{letter}", "USD" if spec.separator else "USDT")) for letter in "BCDEFGHIJKLM"
        ]
        markets = [Market(pair_of(spec, raw), rate) for raw in symbols]
        self.exchange = Exchange(
            loop, Random(rng.random()), exchange, markets, self.clock.true_micros, self.judge, self.trace
        )
        self.judge.exchange, self.judge.log = self.exchange, self.log
        self.feed = Feed(exchange, symbols, follows_list=True, selects=False, ingest=ingest)
        self.judge.wanted = lambda: self.feed.wanted
        records, *others = Process.topics(exchange)
        self.log.create(records, 4)
        for topic in others:
            self.log.create(topic, 1)
        self.cluster = Cluster(
            self.feed, loop, Random(rng.random()), self._process, self._stop, self.exchange.drop_process
        )
        self._rng, self._processes = rng, 0
        clocks.install(self.clock, patches)
        self.log.install(patches)

    def trace(self, text: str) -> None:
        """Note what happens."""
        self.lines.append(f"{self.loop.time():.6f} {text}")

    def _process(self, shard: int, read_counts: Callable[[], Counts]) -> Process:
        self._processes += 1
        self.trace(f"start {shard}")

        def client(process: Process) -> HttpClient:
            http = Http(self.exchange, process)
            return HttpClient(http, http, Proxies({}))

        return Process(
            self.feed, self.log, self.clock, self._rng, client, number=self._processes, endpoint="wss://exchange",
            shard=shard, read_counts=read_counts,
        )  # fmt: skip

    async def _stop(self, process: Process) -> None:
        self.trace(f"stop {process.shard}")
        await process.stop()
        self.exchange.drop_process(process)
        if process.failure is not None:
            self.judge.violate(f"a process ended: {process.failure!r}")

    async def run(self, story: Callable[["Elastic"], Awaitable[None]]) -> None:
        """Let a story happen, and wait until everything is in the log."""
        services = (self.exchange.trade(), self.exchange.beat(), self.cluster.operate(), self._watch())
        services += (self.cluster.measure(),)
        background = [self.loop.create_task(each) for each in services]
        try:
            await story(self)
            background[0].cancel()
            await asyncio.sleep(_SETTLED)
            self.judge.read_is_stored()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self.cluster.end()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.judge.read_is_stored()

    async def until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        """Wait for something. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - a state of the simulation, which has no event
                await asyncio.sleep(ROUND)


def simulate(
    seed: int,
    exchange: str,
    story: Callable[[Elastic], Awaitable[None]],
    *,
    rate: float = 1.0,
    ingest: Mapping[str, Any] = MappingProxyType({}),
) -> Elastic:
    """Let a history happen under a virtual clock."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    loop = VirtualLoop(Random(f"order {seed}"))
    with pytest.MonkeyPatch.context() as patches:
        try:
            asyncio.set_event_loop(loop)
            world = Elastic(seed, exchange, rate, ingest, loop, patches)
            loop.run_until_complete(world.run(story))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            structlog.reset_defaults()
    return world
