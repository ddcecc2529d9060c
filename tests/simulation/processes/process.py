"""One ingest process, wired as `k2.ingest.app` does it, without the schema registry and the status server."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any
from urllib.parse import urldefrag

from k2.common.kafka_connection import KafkaConnection
from k2.ingest.backfill.overlap import OverlapCheck
from k2.ingest.backfill.policy import Policy
from k2.ingest.backfill.repairer import Repairer, rules_version
from k2.ingest.backfill.rest import RestClient
from k2.ingest.backfill.snapshots import Snapshots
from k2.ingest.connection.session import Session, Sources, Tuning
from k2.ingest.exchanges import adapter, rest_answers
from k2.ingest.instruments.changes import SymbolChanges
from k2.ingest.instruments.follower import Follower
from k2.ingest.instruments.joining import Joining
from k2.ingest.kafka import resume
from k2.ingest.kafka.instruments import InstrumentTopic
from k2.ingest.kafka.publisher import Publisher, Topics
from k2.ingest.network.limits import AddressLimits
from k2.ingest.pipeline import Pipeline
from k2.ingest.sequencing.ids import SequenceTracker
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.sequencing.reconnect_windows import ReconnectWindowTracker
from k2.ingest.telemetry.stats import Stats
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.instrument import AVRO
from k2.schemas.sharding import Counts
from tests.simulation.clock import Clock
from tests.simulation.log import Log, Producer
from tests.simulation.processes.feed import FEED, Feed

_MAX_AGE = 30 * 86_400.0
_RETRY = 2.0  # seconds, as a start waits for Kafka and for the instrument list
_LIST_EVERY = 20.0  # seconds between two looks at the instrument list; an hour in a real process


class Process:
    """One process. `http` is its network; what fails in it is in `failure`."""

    def __init__(
        self,
        feed: Feed,
        log: Log,
        clock: Clock,
        rng: Random,
        http: Callable[["Process"], Any],
        *,
        number: int,
        endpoint: str,
        shard: int = 0,
        read_counts: Callable[[], Counts] = tuple,
    ) -> None:
        self.alive = True
        self.failure: BaseException | None = None
        symbols = tuple(name.symbol for name in feed.current.shard(shard))
        self.stats = Stats(started_at=clock.monotonic(), symbols=symbols)
        self.started_at = clock.monotonic()
        self.feed, self.shard, self._read_counts = feed, shard, read_counts
        self._exchange, self._log, self._clock, self._rng, self._endpoint = feed.exchange, log, clock, rng, endpoint
        self._http = http(self)
        self._kafka = KafkaConnection(f"kafka-{number}")
        self.publisher = Publisher(self._kafka, TRADES, Topics(*self.topics(feed.exchange)), FEED, 1, self.stats)
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @staticmethod
    def topics(exchange: str) -> tuple[str, ...]:
        """Return the topics of records, gaps, dead letters, evidence and instruments."""
        others = (topics.gaps, topics.dead_letters, topics.evidence, topics.instruments)
        return (topics.trades(exchange), *(topic(exchange) for topic in others))

    @property
    def producers(self) -> Sequence[Producer]:
        """The producers that the process made."""
        made = (producer for producer in self._log.producers if producer.bootstrap == self._kafka.bootstrap)
        return [producer for producer in made if not producer.dead]

    def start(self) -> None:
        """Start."""
        self._task = asyncio.create_task(self._run())

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._task is not None and self._task.done()

    async def kill(self, durable: int) -> None:
        """End it at once; `durable` of the records that are on their way still reach the log."""
        self.alive = False
        for producer in self.producers:
            producer.kill(durable)
        await self._end()

    async def stop(self) -> None:
        """End it as SIGTERM does."""
        self._stop.set()
        assert self._task is not None
        await asyncio.gather(self._task, return_exceptions=True)
        self.alive = False
        for producer in self.producers:
            producer.kill(0)

    async def _end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._serve()
        except BaseException as error:  # what ends a process is judged by the simulation
            self.failure = error
            if not isinstance(error, Exception):
                raise

    async def _serve(self) -> None:
        make_adapter = partial(adapter, self._exchange, TRADES, ())
        protocol, answers = make_adapter(self._endpoint), rest_answers(self._exchange)
        tracker = SequenceTracker() if protocol.has_sequence else ReconnectWindowTracker()
        name = urldefrag(self._endpoint).fragment
        policy, rules = Policy(enabled=True, max_age=_MAX_AGE), rules_version(answers.version)
        ledger = GapLedger(
            FEED, TRADES.name, protocol.spec.label, self.publisher, self.stats, protocol=name, rules=rules,
            now=self._micros,
        )  # fmt: skip
        await self._answered(self.publisher.check)
        limits = AddressLimits(protocol.rest_budget, protocol.limits, answers)
        rest = RestClient(self._http, protocol.rest_url, limits, answers, utc=lambda: self._micros() / 1e6)
        directory = self.feed.directory()
        archive = InstrumentTopic(
            self._kafka, topics.instruments(self._exchange), self.publisher, 1, lambda: {1: avro.text(AVRO)}
        )
        follower = Follower(
            self._exchange,
            directory,
            rest.fetch_once,
            archive,
            self.stats,
            self._micros,
            tracker.listings,
            every=_LIST_EVERY,
        )
        if self.feed.follows_list:
            await self._answered(follower.start)
        resumed = partial(self._resume, protocol, name, tracker, ledger, policy, rules)
        changes = SymbolChanges(
            self.feed.current, self.shard, directory, self.stats, self.feed.reader(), self._read_counts
        )
        pairs = changes.first
        await resumed(pairs)
        pipeline = Pipeline(pairs, tracker, self.publisher, ledger, self.stats)
        repairer = Repairer(
            protocol, rest, policy, tracker, ledger, pipeline, self.publisher, self.stats,
            now=self._micros, random=Random(self._rng.random()),
        )  # fmt: skip
        snapshots = Snapshots(rest, pipeline)
        sources = Sources(
            snapshots.newest, directory, rng=Random(self._rng.random()), time_ns=self._clock.time_ns, limits=limits
        )
        session = Session(
            make_adapter, (self._endpoint,), pairs, self._http, pipeline, self.publisher, self.stats,
            Tuning(), snapshots.restart, sources,
        )  # fmt: skip

        joining = Joining(session, pipeline, self.stats, resumed)
        services = [session.run(), repairer.run(), self.publisher.run(), changes.run(joining.set_symbols)]
        if isinstance(tracker, ReconnectWindowTracker) and answers.history.rows:
            check = OverlapCheck(
                protocol, rest, tracker, ledger, self.stats, lambda: pipeline.pairs, now=self._micros
            )  # fmt: skip
            services.append(check.run())
        try:
            await self._until_stopped(*services, *([follower.run()] if self.feed.follows_list else []))
        finally:
            snapshots.cancel()
        publishing = asyncio.create_task(self.publisher.run())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await pipeline.settle()
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        pipeline.give_up_suspended()
        await self.publisher.close(20)

    async def _answered(self, call: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await call()
            except ConnectionError:
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _resume(
        self, protocol: Any, name: str, tracker: Any, ledger: GapLedger, policy: Policy, rules: str,
        pairs: Sequence[Pair], waiting: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        records, gaps, *_ = self.topics(self._exchange)

        async def read() -> None:
            state = resume.read(
                self._kafka, channel=TRADES, records=records, gaps=gaps, feed=FEED, pairs=pairs,
                schemas={1: TRADES.schema}, protocol=resume.protocol_of(protocol, name, TRADES),
            )  # fmt: skip
            resume.apply(state, pairs, tracker, ledger, policy, rules, self._micros(), waiting)

        await self._answered(read)

    async def _until_stopped(self, *services: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.ensure_future(service) for service in (*services, self._stop.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _micros(self) -> int:
        return self._clock.time_ns() // 1000
