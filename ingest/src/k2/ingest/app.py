"""The ingest application: one channel of a shard, from websocket over sequencing and gap repair to Kafka."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import urldefrag

import psutil

from k2.common import logs
from k2.common.platform import Platform
from k2.common.retry import AsyncRetryingCaller
from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaCache
from k2.ingest.backfill.overlap import OverlapCheck
from k2.ingest.backfill.policy import Policy
from k2.ingest.backfill.repairer import Repairer, rules_version
from k2.ingest.backfill.rest import RestClient
from k2.ingest.backfill.snapshots import Snapshots
from k2.ingest.backfill.states import States
from k2.ingest.connection.connection import Connection
from k2.ingest.connection.session import Session, Sources, Tuning
from k2.ingest.exchanges import adapter, rest_answers
from k2.ingest.exchanges import clock as exchange_clock
from k2.ingest.exchanges.answers import RestAnswers
from k2.ingest.exchanges.base import Adapter
from k2.ingest.instruments.changes import FeedFile, SpreadFile, SymbolChanges
from k2.ingest.instruments.directory import Directory
from k2.ingest.instruments.follower import Follower, ListUnreadable
from k2.ingest.instruments.joining import Joining
from k2.ingest.kafka import resume
from k2.ingest.kafka.instruments import InstrumentTopic
from k2.ingest.kafka.publisher import KafkaUnreachable, Publisher, Topics
from k2.ingest.kafka.resume import KafkaUnreadable
from k2.ingest.memory import memory_limit
from k2.ingest.network import clock, egress
from k2.ingest.network.client import open_client
from k2.ingest.network.clock import ClockOffset
from k2.ingest.network.limits import AddressLimits
from k2.ingest.pipeline import Pipeline
from k2.ingest.sequencing.connection_order import ConnectionOrderTracker
from k2.ingest.sequencing.ids import SequenceTracker
from k2.ingest.sequencing.ledger import GapLedger, utc_micros
from k2.ingest.sequencing.reconnect_windows import ReconnectWindowTracker
from k2.ingest.sequencing.states import StateTracker
from k2.ingest.sequencing.tracker import Tracker
from k2.ingest.telemetry import metrics, server
from k2.ingest.telemetry.load import LoadMeter
from k2.ingest.telemetry.stats import Stats
from k2.schemas import topics
from k2.schemas.channels import TRADES, Channel, Sequencing
from k2.schemas.codecs import avro
from k2.schemas.exchanges.spec import Pair
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.formats import FORMAT, OtherFormat
from k2.schemas.records.instrument import AVRO
from k2.schemas.values import seconds

log = logs.get("ingest")

# Finds the adapter of an exchange's channel for some pairs and an endpoint.
FindAdapter = Callable[..., Adapter]
_Result = TypeVar("_Result")

_MONITOR_INTERVAL: Final = 1.0
_PRESSURE_HIGH: Final = 0.9  # fractions of the memory limit; two thresholds avoid flapping
_PRESSURE_LOW: Final = 0.8
_SERVICE_RETRY: Final = 2.0
_UNANSWERED: Final = (KafkaUnreachable, KafkaUnreadable, RegistryUnavailable, ListUnreadable)


@dataclass(frozen=True, slots=True)
class Options:
    """The shard of this process and the address of its status server."""

    shard: int = 0
    replica: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    grace: float = 20.0  # seconds for the final flush
    feed_file: Path | None = None  # followed: symbols that are added or removed change subscriptions
    egress: Path | None = None  # followed: the number of processes that share the address
    shards: Path | None = None  # followed: over how many shards the symbols are spread
    tuning: Tuning = field(default_factory=Tuning)
    private: bool = True  # the exchange may be at an address that is not public


class ServiceUnreachable(ConnectionError):
    """Kafka, the schema registry or the exchange's instrument list did not answer within `Tuning.max_attempts`."""


class MixedProtocols(ValueError):
    """The endpoints of one feed speak different protocols."""


class UnrecordableSymbols(ValueError):
    """The exchange lists symbols that K2 cannot record; the argument is why, by symbol."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        described = "; ".join(f"{raw_symbol}: {reason}" for raw_symbol, reason in reasons.items())
        super().__init__(f"remove these from spec.symbols, K2 cannot record them: {described}")


async def run(
    feed: ExchangeFeed,
    platform: Platform,
    options: Options,
    stop: asyncio.Event,
    channel: Channel = TRADES,
    find_adapter: FindAdapter = adapter,
) -> int:
    """Run one channel until `stop` is set. Return how many records were not delivered.

    Raises `ServiceUnreachable`, `AttemptsExhausted`, `AllSymbolsRefused`, `MixedProtocols`, `OtherFormat`,
    `UnrecordableSymbols`, `IncompatibleSchema`, `ProducerFatal`, or OSError if the port is in use.
    """
    names = feed.shard(options.shard)
    stats = Stats(started_at=time.monotonic(), symbols=tuple(name.symbol for name in names))
    make_adapter = adapter_factory(feed, channel, find_adapter)
    endpoints = feed.spec.ingest.endpoints or (make_adapter("").url,)
    protocol = _one_protocol(endpoints, make_adapter)
    labels = {"exchange": feed.spec.exchange, "feed": feed.name, "shard": f"{options.shard}-{options.replica}"}
    registry = metrics.registry(stats, channel=channel.name, **labels)
    runner = await server.serve(stats, channel, registry, host=options.host, port=options.port, **labels)
    try:
        publisher, schemas = await _publisher(feed, channel, platform, stats, options.tuning.max_attempts)
        tracker = tracker_of(channel, protocol)
        answers = rest_answers(feed.spec.exchange)
        backfill = feed.spec.ingest.backfill
        policy = Policy(backfill.enabled, seconds(backfill.max_age), backfill.max_ids)
        rules = rules_version(answers.version)
        name = urldefrag(endpoints[0]).fragment
        ledger = GapLedger(
            feed.name, channel.name, feed.exchange_spec.label, publisher, stats,
            protocol=name, rules=rules, repairable=channel.sequencing is Sequencing.EXCHANGE_IDS,
        )  # fmt: skip
        resumer = _Resumer(
            feed, channel, platform, schemas, resume.protocol_of(protocol, name, channel), tracker, ledger, policy,
            rules, stats, options.tuning.max_attempts,
        )  # fmt: skip
        async with open_client(private=options.private) as http:
            limits = _address_limits(protocol, answers, options)
            rest = RestClient(http, feed.spec.ingest.rest_endpoint or protocol.rest_url, limits, answers)
            directory = Directory(feed.exchange_spec)
            archive = await _archive(feed, platform, publisher)
            follower = Follower(
                feed.spec.exchange, directory, rest.fetch_once, archive, stats, utc_micros, tracker.listings
            )
            await _wait_for_service(follower.start, stats, options.tuning.max_attempts)
            if options.tuning.max_attempts and (unrecordable := directory.unrecordable(names)):
                raise UnrecordableSymbols(unrecordable)
            changes = SymbolChanges(
                feed, options.shard, directory, stats,
                FeedFile(options.feed_file) if options.feed_file else None,
                *([SpreadFile(options.shards).counts] if options.shards else []),
            )  # fmt: skip
            pairs = changes.first
            await resumer.resume(pairs)
            pipeline = Pipeline(pairs, tracker, publisher, ledger, stats)
            repairer = Repairer(protocol, rest, policy, tracker, ledger, pipeline, publisher, stats)
            snapshots, states = Snapshots(rest, pipeline), States(rest, pipeline)

            def on_connected(connection: Connection) -> None:
                snapshots.restart(connection)
                states.begin(connection)

            session = Session(
                make_adapter,
                endpoints,
                pairs,
                http,
                pipeline,
                publisher,
                stats,
                options.tuning,
                on_connected,
                Sources(snapshots.newest, directory, limits=limits),
            )
            joining = Joining(session, pipeline, stats, resumer.resume)
            log.info("started", symbols=len(pairs), endpoints=list(endpoints))
            await _run_until(
                stop,
                session.run(),
                repairer.run(),
                *_overlap_checks(protocol, rest, policy, tracker, ledger, pipeline, stats),
                publisher.run(),
                _monitor_loop(stats, publisher),
                follower.run(),
                changes.run(joining.set_symbols),
                clock.follow(exchange_clock(feed.spec.exchange), rest, partial(_on_clock_offset, stats, publisher)),
                *([egress.follow(options.egress, limits)] if options.egress else []),
            )
            snapshots.cancel()
            states.cancel()
            stats.heartbeats.clear()
            await _drain(pipeline, publisher, options.grace / 2)
        undelivered = await publisher.close(options.grace)
        log.info("stopped", delivered=sum(stats.delivered.values()), undelivered=undelivered)
        return undelivered
    finally:
        await runner.cleanup()


async def _drain(pipeline: Pipeline, publisher: Publisher, timeout: float) -> None:
    """Send what the pipeline still holds, for at most `timeout` seconds."""
    publishing = asyncio.create_task(publisher.run())
    try:
        async with asyncio.timeout(timeout):
            await pipeline.settle()
    except TimeoutError:
        log.warning("records still held back at the end are given up", seconds=timeout)
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    pipeline.give_up_suspended()


@dataclass(frozen=True, slots=True)
class _Resumer:
    """Continues symbols where an earlier process stopped, as Kafka has it."""

    feed: ExchangeFeed
    channel: Channel
    platform: Platform
    schemas: Mapping[int, str]
    protocol: resume.Protocol
    tracker: Tracker
    ledger: GapLedger
    policy: Policy
    rules: str
    stats: Stats
    max_attempts: int

    async def resume(self, pairs: Sequence[Pair], waiting: Mapping[str, Sequence[str]] = MappingProxyType({})) -> None:
        """Read the resume state of some pairs, and continue from it. Raises `ServiceUnreachable`.

        `waiting` are the ids of records that were received and wait, by symbol.
        """
        read = partial(
            resume.read,
            self.platform.kafka,
            channel=self.channel,
            records=self.feed.topic(self.channel),
            gaps=topics.gaps(self.feed.spec.exchange),
            feed=self.feed.name,
            pairs=pairs,
            schemas=self.schemas,
            protocol=self.protocol,
        )
        state = await _wait_for_service(partial(asyncio.to_thread, read), self.stats, self.max_attempts)
        resume.apply(state, pairs, self.tracker, self.ledger, self.policy, self.rules, utc_micros(), waiting)
        self.stats.resume = resume.summary(state)


async def _archive(feed: ExchangeFeed, platform: Platform, publisher: Publisher) -> InstrumentTopic | None:
    """Return the topic of instruments; None if an installation of an earlier version has none."""
    if not publisher.keeps_instruments:
        return None
    topic = topics.instruments(feed.spec.exchange)
    registry = Registry(platform.registry)
    schema_id = await asyncio.to_thread(registry.register, topics.subject(topic), avro.text(AVRO))
    schemas = SchemaCache(registry, topics.subject(topic))
    return InstrumentTopic(platform.kafka, topic, publisher, schema_id, schemas.schemas)


async def _run_until(stop: asyncio.Event, *services: object) -> None:
    """Run all services until `stop` is set or one of them fails; raise its error."""
    tasks = [asyncio.ensure_future(service) for service in (*services, stop.wait())]  # type: ignore[call-overload]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _on_clock_offset(stats: Stats, publisher: Publisher, measured: ClockOffset) -> None:
    stats.clock_offset, stats.clock_wrong = measured.seconds, measured.wrong
    publisher.clock_offset = round(measured.seconds * 1000) if measured.wrong else 0
    if measured.wrong:
        stats.errors["clock"] += 1


def _address_limits(protocol: Adapter, answers: RestAnswers, options: Options) -> AddressLimits:
    processes = egress.read(options.egress) if options.egress else 1
    return AddressLimits(protocol.rest_budget, protocol.limits, answers, processes)


def _one_protocol(endpoints: Sequence[str], make_adapter: Callable[[str], Adapter]) -> Adapter:
    fragments = {urldefrag(endpoint).fragment for endpoint in endpoints}
    if len(fragments) > 1:
        raise MixedProtocols(
            f"spec.ingest.endpoints mix protocols ({', '.join(sorted(fragments))}), whose ids differ; use one"
        )
    return make_adapter(endpoints[0])


def adapter_factory(
    feed: ExchangeFeed, channel: Channel, find_adapter: FindAdapter = adapter
) -> Callable[[str], Adapter]:
    """Return what makes a feed's adapter of a channel for an endpoint, without pairs."""
    return partial(find_adapter, feed.spec.exchange, channel, (), **feed.options(channel))


def tracker_of(channel: Channel, protocol: Adapter) -> Tracker:
    """Return what finds the missing records of a channel."""
    if channel.sequencing is Sequencing.CONNECTION:
        return ConnectionOrderTracker()
    if channel.sequencing is Sequencing.STATE:
        return StateTracker()
    return SequenceTracker() if protocol.has_sequence else ReconnectWindowTracker()


def _overlap_checks(
    protocol: Adapter, rest: RestClient, policy: Policy, tracker: Tracker, ledger: GapLedger, pipeline: Pipeline,
    stats: Stats,
) -> list[Coroutine[None, None, None]]:  # fmt: skip
    """Return the comparison with the history, where nothing else shows what an open connection lost."""
    if not (isinstance(tracker, ReconnectWindowTracker) and rest.answers.history.rows and policy.enabled):
        return []
    return [OverlapCheck(protocol, rest, tracker, ledger, stats, lambda: pipeline.pairs).run()]


async def _publisher(
    feed: ExchangeFeed, channel: Channel, platform: Platform, stats: Stats, max_attempts: int
) -> tuple[Publisher, dict[int, str]]:
    """Return a publisher, once its broker, topics and schema exist, and the schemas of its topic by id."""
    exchange = feed.spec.exchange
    names = Topics(
        feed.topic(channel),
        topics.gaps(exchange),
        topics.dead_letters(exchange),
        topics.evidence(exchange),
        topics.instruments(exchange),
    )
    return await _wait_for_service(
        partial(_connect_publisher, feed, channel, platform, stats, names), stats, max_attempts
    )


async def _wait_for_service(call: Callable[[], Awaitable[_Result]], stats: Stats, max_attempts: int) -> _Result:
    """Call a service until it answers. Raises `ServiceUnreachable` after `max_attempts`; 0 means no limit."""

    def unanswered(error: Exception) -> bool:
        if isinstance(error, _UNANSWERED):
            stats.message = str(error)
            return True
        return False

    retrying = AsyncRetryingCaller(
        max_attempts or None, timeout=None, wait_initial=_SERVICE_RETRY, wait_max=2 * _SERVICE_RETRY, wait_exp_base=1
    )
    try:
        return await retrying(unanswered, call)
    except _UNANSWERED as error:
        raise ServiceUnreachable(str(error)) from error


async def _connect_publisher(
    feed: ExchangeFeed, channel: Channel, platform: Platform, stats: Stats, names: Topics
) -> tuple[Publisher, dict[int, str]]:
    registry = Registry(platform.registry)
    subject = topics.subject(names.records)
    cache = SchemaCache(registry, subject)
    check_format(names.records, await asyncio.to_thread(cache.schemas))
    schema_id = await asyncio.to_thread(registry.register, subject, channel.schema)
    schemas = await asyncio.to_thread(cache.schemas)
    publisher = Publisher(platform.kafka, channel, names, feed.name, schema_id, stats)
    await publisher.check()
    return publisher, schemas


def check_format(topic: str, schemas: Mapping[int, str]) -> None:
    """Raise `OtherFormat` if a topic's schemas, texts by id, are not all of this version's format."""
    for text in schemas.values():
        if (number := avro.format_of(text)) != FORMAT:
            raise OtherFormat(f"topic {topic}", number)


async def _monitor_loop(stats: Stats, publisher: Publisher) -> None:
    """Update the load and the memory pressure once a second; under pressure the socket is not read."""
    process, meter, limit = psutil.Process(), LoadMeter(stats, _MONITOR_INTERVAL, time.monotonic()), memory_limit()
    while True:
        stats.heartbeats["monitor"] = time.monotonic()
        await asyncio.sleep(_MONITOR_INTERVAL)
        meter.sample(time.monotonic())
        stats.resident_bytes = process.memory_info().rss
        memory_pressure = stats.resident_bytes > limit * (
            _PRESSURE_LOW if publisher.memory_pressure else _PRESSURE_HIGH
        )
        if memory_pressure and not publisher.memory_pressure:
            stats.errors["memory"] += 1
            log.error("memory pressure, websocket not read", resident=stats.resident_bytes, limit=limit)
        publisher.memory_pressure = memory_pressure
