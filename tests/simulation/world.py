"""One history: an exchange, a log and a process under a virtual clock, with the faults that a seed chooses."""

import asyncio
import gc
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest
import stamina._core
import structlog

from k2.ingest.connection import connection, lane
from k2.ingest.exchanges import adapter
from k2.ingest.instruments import follower
from k2.ingest.kafka import publisher
from k2.ingest.kafka.publisher import ProducerFatal
from k2.ingest.network.client import HttpClient
from k2.ingest.network.proxies import Proxies
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from tests.simulation import clock as clocks
from tests.simulation.clock import Clock, VirtualLoop
from tests.simulation.dialects import DIALECTS
from tests.simulation.exchange import Exchange, Market, Wire
from tests.simulation.faults import DISTURBING, FAULTS, SILENCING, Fault, change_symbols
from tests.simulation.judge import Judge
from tests.simulation.log import Log
from tests.simulation.processes.feed import Feed
from tests.simulation.processes.process import Process
from tests.simulation.processes.replicas import Replica
from tests.simulation.sockets import Http

_NAMES = tuple(DIALECTS)
_WARM_UP = 15.0  # seconds before the first fault
_LAST_FAULT = 55.0
_REDUNDANT = 0.15  # of the histories have two replicas
_LONGEST = 1800.0  # virtual seconds until everything must be repaired
_RESTART = 1.0
_CHANGED = 12.0  # seconds in which a change of symbols is applied
_CALM = 5.0  # seconds at the end in which everything must stay right


@dataclass(frozen=True)
class Outcome:
    """What became of a seed."""

    seed: int
    exchange: str
    faults: tuple[str, ...]
    violations: tuple[str, ...]
    trace: str
    seconds: float  # virtual

    @property
    def digest(self) -> str:
        """The hash of everything that happened, in order."""
        return hashlib.sha256(self.trace.encode()).hexdigest()


class World:
    """One history in the making."""

    def __init__(self, seed: int, loop: VirtualLoop, patches: pytest.MonkeyPatch) -> None:
        rng = Random(seed)
        self.loop = loop
        self.lines: list[str] = []
        self.clock = Clock(loop)
        self.judge = Judge(loop.time, self.trace)
        self.log = Log(loop, lambda: self.clock.time_ns() // 10**6, self.judge.appended)
        name = _NAMES[seed % len(_NAMES)]
        spec, dialect = EXCHANGES[name], DIALECTS[name]
        traded, unlisted = dialect.symbols[:3], dialect.symbols[3:]
        redundant = rng.random() < _REDUNDANT
        rates = (rng.choice((2.0, 3.0)), 0.5, 0.1)
        markets = [Market(pair_of(spec, raw), rate) for raw, rate in zip(traded, rates, strict=True)]
        self.exchange = Exchange(
            loop, Random(rng.random()), name, markets, self.clock.true_micros, self.judge, self.trace
        )
        self.judge.exchange, self.judge.log = self.exchange, self.log
        symbols = [*traded, *(unlisted if rng.random() < 0.3 else ())]
        rng.shuffle(symbols)
        self.feed = Feed(name, symbols, follows_list=rng.random() < 0.5, selects=rng.random() < 0.5)
        self.judge.wanted = lambda: self.feed.wanted
        self.numbered = adapter(name, TRADES, [pair_of(spec, raw) for raw in symbols]).has_sequence
        self._rng = rng
        count = rng.randint(1, 8)
        records, *others = Process.topics(name)
        self.log.create(records, count)
        for topic in others:
            self.log.create(topic, 1)
        self.plan = self._make_plan(rng)
        self.judge.may_be_silent = any(fault in SILENCING for _, fault in self.plan)
        self.replicas = [
            Replica(number, self._process, self.exchange, self.judge, self.trace)
            for number in range(2 if redundant else 1)
        ]
        for replica in self.replicas:
            replica.others = [other for other in self.replicas if other is not replica]
        self._processes = 0
        clocks.install(self.clock, patches)
        self.log.install(patches)

    @staticmethod
    def _make_plan(rng: Random) -> list[tuple[float, Fault]]:
        faults = rng.choices(list(FAULTS), list(FAULTS.values()), k=rng.randint(2, 6))
        return sorted(((rng.uniform(_WARM_UP, _LAST_FAULT), fault) for fault in faults), key=lambda entry: entry[0])

    def trace(self, text: str) -> None:
        """Note what happens."""
        self.lines.append(f"{self.loop.time():.6f} {text}")

    def _process(self, protocol: str) -> Process:
        self._processes += 1

        def client(process: Process) -> HttpClient:
            http = Http(self.exchange, process)
            return HttpClient(http, http, Proxies({}))

        return Process(
            self.feed, self.log, self.clock, self._rng, client, number=self._processes,
            endpoint=f"wss://exchange#{protocol}" if protocol else "wss://exchange",
        )  # fmt: skip

    @property
    def processes(self) -> list[Process]:
        """The processes that are, or were last, in their places."""
        return [replica.process for replica in self.replicas]

    def hit(self, rng: Random) -> list[Replica]:
        """Return the replicas that a fault befalls."""
        return self.replicas if len(self.replicas) == 1 or rng.random() < 0.3 else [rng.choice(self.replicas)]

    def remove(self, raw_symbol: str) -> None:
        """Let the feed want a symbol no more."""
        self.trace(f"remove {raw_symbol}")
        self.feed.remove(raw_symbol)
        self.judge.removed_at[pair_of(EXCHANGES[self.exchange.name], raw_symbol).symbol] = self.loop.time()

    async def run(self) -> None:
        """Let the history happen."""
        background = [
            self.loop.create_task(each) for each in (self.exchange.trade(), self.exchange.beat(), self._watch())
        ]
        try:
            for replica in self.replicas:
                replica.start()
            await self._fail()
            self.trace("healed")
            self.exchange.heal()
            await self._settle()
            if any(fault is change_symbols for _, fault in self.plan):
                await self._change_symbols()
                await self._settle()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            for replica in self.replicas:
                await replica.kill(0)
            await asyncio.sleep(_RESTART)
            if leaked := asyncio.all_tasks() - {asyncio.current_task()}:
                self.judge.violate(f"{len(leaked)} tasks outlive the process")

    async def _fail(self) -> None:
        began, running = self.loop.time(), []
        for at, fault in self.plan:
            await asyncio.sleep(began + at - self.loop.time())
            for replica in self.replicas:
                await replica.running.wait()
            self.trace(f"fault {fault.__name__}")
            running.append(self.loop.create_task(self._inflict(fault)))
        await asyncio.gather(*running)

    async def _inflict(self, fault: Fault) -> None:
        disturbs = fault in DISTURBING
        self.judge.disturb(disturbs)
        await fault(self, Random(self._rng.random()))
        self.judge.disturb(disturbs)

    async def _settle(self) -> None:
        """Wait until nothing is missing and every symbol flows."""
        deadline = self.loop.time() + _LONGEST
        while self.loop.time() < deadline and not self.judge.violations:
            await asyncio.sleep(_CALM)
            late = any(process.publisher.in_flight > 50 for process in self.processes)
            if not (late or self.judge.retrievable() or self.judge.flows(self.processes)):
                break
        else:
            for trade in self.judge.retrievable()[:5]:
                self.judge.violate(f"{trade} is not in the log long after the last fault")
            for symbol in self.judge.flows(self.processes):
                self.judge.violate(f"{symbol} does not flow long after the last fault")
        for trade in self.judge.unaccounted(pending=True):
            self.judge.violate(f"{trade} is neither in the log nor in a gap")

    async def _change_symbols(self) -> None:
        """Remove a symbol and add it while nothing else happens: only its subscription changes."""
        name = self._rng.choice([name for name in self.feed.wanted if name in self.exchange.markets])
        before = self._connections()
        self.remove(name)
        await asyncio.sleep(_CHANGED)
        if any(name in wire.client.subscribed for wire in self._connections()):
            self.judge.violate(f"{name} is subscribed although it was removed")
        self.feed.add(name)
        await asyncio.sleep(_CHANGED)
        if any(name not in wire.client.subscribed for wire in self._connections()):
            self.judge.violate(f"{name} is not subscribed although it was added")
        if not self.judge.may_be_silent and self._connections() != before:
            self.judge.violate("a change of symbols replaced a connection")

    def _connections(self) -> list[Wire]:
        return [wire for process in self.processes for wire in self.exchange.wires_of(process)]

    async def _watch(self) -> None:
        """Look at the status, and start a process again that ended by itself."""
        while True:
            await asyncio.sleep(0.5)
            for replica in self.replicas:
                self.judge.sample(replica.process)
                if replica.running.is_set() and replica.process.ended:
                    failure = replica.process.failure
                    if not isinstance(failure, ProducerFatal):
                        self.judge.violate(f"the process ended: {failure!r}")
                    await replica.restart(_RESTART, durable=0)
            self.judge.read_is_stored()


def simulate(seed: int, change: Callable[[pytest.MonkeyPatch], None] | None = None) -> Outcome:
    """Let the history of a seed happen, perhaps with a change of the code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    shuffle = Random(f"order {seed}") if seed % 2 else None
    loop = VirtualLoop(shuffle)
    with pytest.MonkeyPatch.context() as patches:
        try:
            asyncio.set_event_loop(loop)
            gc.disable()  # what a history leaves behind is collected after it, not a dozen times meanwhile
            # Timers that only decide how soon a change is noticed cost most of a simulation's time.
            patches.setattr(publisher, "_IDLE_POLL", 1.0)
            patches.setattr(publisher, "_BUSY_POLL", 0.03)
            patches.setattr(lane, "_WATCH_EVERY", 0.5)
            patches.setattr(connection, "_POLL", 5.0)
            # The module's functions draw from one stream for the whole process, its other threads included.
            jitter = Random(seed)
            patches.setattr(follower, "random", jitter)
            patches.setattr(stamina._core, "random", jitter)
            if change is not None:
                change(patches)
            world = World(seed, loop, patches)
            loop.run_until_complete(world.run())
        finally:
            gc.enable()
            asyncio.set_event_loop(None)
            loop.close()
            structlog.reset_defaults()
    return Outcome(
        seed, world.exchange.name, tuple(fault.__name__ for _, fault in world.plan), tuple(world.judge.violations),
        "\n".join(world.lines), loop.time(),
    )  # fmt: skip
