"""Recorded frames, and a Kafka broker inside this process."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from k2.common.kafka_connection import KafkaConnection
from k2.ingest.app import tracker_of
from k2.ingest.backfill.policy import Policy
from k2.ingest.backfill.repairer import Repairer
from k2.ingest.backfill.rest import RestClient
from k2.ingest.backfill.snapshots import Snapshots
from k2.ingest.backfill.states import States
from k2.ingest.connection.connection import Connection
from k2.ingest.connection.listing import UNLISTED, Listing
from k2.ingest.connection.session import Session, Sources, Tuning
from k2.ingest.exchanges import adapter, rest_answers
from k2.ingest.exchanges.base import NO_ID, Adapter, RestBudget, SequencedRecord
from k2.ingest.kafka.publisher import Publisher, Topics
from k2.ingest.network.client import HttpClient, open_client
from k2.ingest.network.limits import AddressLimits
from k2.ingest.pipeline import Pipeline
from k2.ingest.sequencing.gaps import GapEvent, decode
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.simulator.capture import frames
from k2.ingest.simulator.listings import pair_of
from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import TRADES, Channel, Sequencing
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Trade

_ANY_AGE = 1e12  # seconds; gaps of tests are at any time
PARTITIONS = 4  # of every topic of librdkafka's broker


class Broker:
    """librdkafka's own test broker: Kafka's protocol over a socket, in this process, without a JVM."""

    def __init__(self) -> None:
        self._holder = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        (node,) = self._holder.list_topics(timeout=10).brokers.values()
        self.bootstrap = f"{node.host}:{node.port}"

    def create(self, *names: str) -> None:
        """Creates topics."""
        for name in names:
            self._holder.list_topics(name, timeout=10)

    def put(self, topic: str, key: str, value: bytes) -> None:
        """Stores one record, in the partition that the publisher's partitioner chooses."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": "consistent", "log_level": 0})
        producer.produce(topic, value, key)
        assert producer.flush(10) == 0

    def read(self, topic: str) -> list[Any]:
        """Every record of a topic, partition by partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "t",
                "fetch.wait.max.ms": 5,
                "fetch.error.backoff.ms": 5,
                "log_level": 0,
            }
        )
        try:
            places = [TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)]
            expected = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
            consumer.assign(places)
            messages: list[Any] = []
            while len(messages) < expected:
                messages += consumer.consume(expected - len(messages), timeout=0.1)
            return sorted(messages, key=lambda message: (message.partition(), message.offset()))
        finally:
            consumer.close()

    def stop(self) -> None:
        """The broker is gone, and its port closed."""
        del self._holder


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """The broker that all tests share, each with topics of its own."""
    yield (broker := Broker())
    gc.collect()  # producers in cycles would go on looking for it
    broker.stop()


@pytest.fixture
def names(broker: Broker) -> Topics:
    """Five topics that no other test uses."""
    topics = Topics(*(f"{uuid4()}.{kind}" for kind in ("trades", "gaps", "deadletter", "evidence", "instruments")))
    broker.create(topics.records, topics.gaps, topics.dead_letters, topics.evidence, topics.instruments)
    return topics


@pytest.fixture(scope="session")
def recorded(captures: Path) -> Callable[[str], list[bytes]]:
    """The frames of a recording, or the one frame of a JSON file."""

    def read(name: str) -> list[bytes]:
        if name.endswith(".json"):
            return [(captures / name).read_bytes()]
        return [frame for _, frame in frames(captures / name)]

    return read


@pytest.fixture(scope="session")
def observed() -> Callable[..., SequencedRecord]:
    """A trade with an id, or with a range of them."""

    def build(
        last: int,
        *,
        first: int = NO_ID,
        price: int = 100,
        time: int = 0,
        source: str = "live",
        trade_id: str = "",
        received: int = 0,
    ) -> SequencedRecord:
        time = time or last * 1000
        trade = Trade(
            trade_id or str(last), "BTCUSDT", "BINANCE", "BTC", "USDT", time, price, 1, Side.BUY, received or time,
            (("source", source),),
        )  # fmt: skip
        if trade_id:
            return SequencedRecord(trade, NO_ID, NO_ID)
        return SequencedRecord(trade, last if first == NO_ID else first, last)

    return build


@pytest.fixture(scope="session")
def pair() -> Pair:
    """BTCUSDT of Binance."""
    return pair_of(EXCHANGES["binance"], "BTCUSDT")


class Shard:
    """Everything between a websocket and the broker, wired as `k2.ingest.app` does it, without a registry."""

    def __init__(
        self,
        broker: Broker,
        names: Topics,
        http: HttpClient,
        exchange: str,
        raw_symbols: Sequence[str],
        rest: str,
        channel: Channel = TRADES,
    ) -> None:
        self.channel = channel
        self.pairs = [pair_of(EXCHANGES[exchange], raw_symbol) for raw_symbol in raw_symbols]
        self.exchange, self.broker, self.names, self.http = exchange, broker, names, http
        self.stats = Stats(started_at=time.monotonic())
        self.publisher = Publisher(KafkaConnection(broker.bootstrap), channel, self.names, "spot", 1, self.stats)
        self.adapter = adapter(exchange, channel, self.pairs)
        self.tracker = tracker_of(channel, self.adapter)
        repairable = channel.sequencing is Sequencing.EXCHANGE_IDS
        self.ledger = GapLedger(
            "spot", channel.name, exchange.upper(), self.publisher, self.stats, repairable=repairable
        )  # fmt: skip
        self.pipeline = Pipeline(self.pairs, self.tracker, self.publisher, self.ledger, self.stats)
        answers = rest_answers(exchange)
        self.address = AddressLimits(RestBudget(1000, 1000), self.adapter.limits, answers)
        client = RestClient(http, rest, self.address, answers)
        self.repairer = Repairer(
            self.adapter, client, Policy(enabled=True, max_age=_ANY_AGE), self.tracker, self.ledger, self.pipeline,
            self.publisher, self.stats,
        )  # fmt: skip
        self.snapshots = Snapshots(client, self.pipeline)
        self.states = States(client, self.pipeline)
        self.connects = 0
        self.listing: Listing = UNLISTED
        self.limits = self.adapter.limits
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, *endpoints: str, tuning: Tuning, repair: bool = True) -> asyncio.Task[None]:
        """Runs; returns the session's task."""

        def connected(connection: Connection) -> None:
            self.connects += 1
            self.states.begin(connection)

        def made(endpoint: str) -> Adapter:
            exchange = adapter(self.exchange, self.channel, self.pairs, endpoint)
            exchange.limits = self.limits
            return exchange

        self.session = Session(
            made, endpoints, self.pairs, self.http, self.pipeline, self.publisher, self.stats, tuning,
            connected, Sources(self.snapshots.newest, self.listing, limits=self.address),
        )  # fmt: skip
        parts = [self.session.run(), self.publisher.run(), *([self.repairer.run()] if repair else [])]
        self._tasks = [asyncio.create_task(part) for part in parts]
        return self._tasks[0]

    async def stop(self) -> int:
        """Ends everything; returns how many records were not delivered."""
        self.states.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return await self.publisher.close(5)

    def stored(self) -> list[dict[str, Any]]:
        """The records that the broker holds."""
        schema = self.channel.reader_schema
        return [avro.decode(message.value()[5:], schema, schema) for message in self.broker.read(self.names.records)]

    def gap_events(self) -> list[GapEvent]:
        """The gap events that the broker holds."""
        return [decode(message.value()) for message in self.broker.read(self.names.gaps)]

    def dead_letters(self) -> list[tuple[bytes, str]]:
        """Frames and errors that the broker holds."""
        messages = self.broker.read(self.names.dead_letters)
        return [(message.value(), dict(message.headers())["k2-error"].decode()) for message in messages]


@pytest.fixture
async def shard(broker: Broker, names: Topics, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Shard]]:
    """Makes shards that look at their connections often; ends them with the test."""
    monkeypatch.setattr("k2.ingest.connection.lane._WATCH_EVERY", 0.05)
    monkeypatch.setattr("k2.ingest.connection.lane._OVERLAP", 0.3)
    monkeypatch.setattr("k2.ingest.connection.session._OVERSEE_EVERY", 0.1)
    made: list[Shard] = []
    async with open_client() as http:

        def build(
            exchange: str, raw_symbols: Sequence[str], rest: str = "http://127.0.0.1:1", channel: Channel = TRADES
        ) -> Shard:
            made.append(Shard(broker, names, http, exchange, raw_symbols, rest, channel))
            return made[-1]

        yield build
        for running in made:
            await running.stop()
