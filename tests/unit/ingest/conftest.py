"""Real frames, and a Kafka broker inside this process."""

import asyncio
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from k2.ingest.exchanges.base import Observed
from k2.ingest.simulator.capture import frames
from k2.schemas import topics
from k2.schemas.exchanges import EXCHANGES, Pair
from k2.schemas.trade import Side, Trade

PARTITIONS = 4  # of every topic of librdkafka's broker


class Broker:
    """librdkafka's own test broker: Kafka's protocol over a socket, in this process, without a JVM."""

    def __init__(self) -> None:
        self._holder = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        (found,) = self._holder.list_topics(timeout=10).brokers.values()
        self.bootstrap = f"{found.host}:{found.port}"

    def create(self, *names: str) -> None:
        """Creates topics."""
        for name in names:
            self._holder.list_topics(name, timeout=10)

    def create_for(self, exchange: str) -> None:
        """Creates the three topics of an exchange."""
        self.create(topics.trades(exchange), topics.gaps(exchange), topics.deadletter(exchange))

    def put(self, topic: str, key: str, value: bytes) -> None:
        """Stores one record, in the partition that the publisher's partitioner chooses."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": "consistent", "log_level": 0})
        producer.produce(topic, value, key)
        assert producer.flush(10) == 0

    def read(self, topic: str) -> list[Any]:
        """Every record of a topic, partition by partition."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "t", "log_level": 0})
        try:
            found: list[Any] = []
            for partition in range(PARTITIONS):
                place = TopicPartition(topic, partition, 0)
                _, high = consumer.get_watermark_offsets(place, timeout=10)
                consumer.assign([place])
                while high and (not found or found[-1].partition() != partition or found[-1].offset() < high - 1):
                    found += consumer.consume(1000, timeout=0.2)
            return found
        finally:
            consumer.close()

    def stop(self) -> None:
        """The broker is gone, and its port closed."""
        del self._holder


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A broker that holds nothing."""
    found = Broker()
    yield found
    if hasattr(found, "_holder"):
        found.stop()


@pytest.fixture(scope="session")
def recorded(captures: Path) -> Callable[[str], list[bytes]]:
    """The frames of a recording, or the one frame of a JSON file."""

    def read(name: str) -> list[bytes]:
        if name.endswith(".json"):
            return [(captures / name).read_bytes()]
        return [frame for _, frame in frames(captures / name)]

    return read


@pytest.fixture(scope="session")
def recorded_lines(captures: Path) -> Callable[[str], list[bytes]]:
    """The raw lines of a recording."""
    return lambda name: gzip.decompress((captures / name).read_bytes()).splitlines()


@pytest.fixture(scope="session")
def observed() -> Callable[..., Observed]:
    """A trade with an id, or with a range of them."""

    def build(
        last: int, *, first: int = 0, price: int = 100, time: int = 0, source: str = "live", trade_id: str = ""
    ) -> Observed:
        trade = Trade(
            trade_id or str(last), "BTCUSDT", "BINANCE", "BTC", "USDT", time or last * 1000, price, 1, Side.BUY, 0,
            (("source", source),),
        )  # fmt: skip
        return Observed(trade, 0 if trade_id else first or last, 0 if trade_id else last)

    return build


@pytest.fixture(scope="session")
def pair() -> Pair:
    """BTCUSDT of Binance."""
    return EXCHANGES["binance"].pair("BTCUSDT")


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Waits until a condition holds; fails after `within` seconds."""

    async def wait(condition: Callable[[], Any], within: float = 10.0) -> Any:
        deadline = asyncio.get_running_loop().time() + within
        while not (found := condition()):
            assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
            await asyncio.sleep(0.01)
        return found

    return wait
