"""The publisher and a real broker that restarts, stops answering, or forgets a connection."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from k2.cli.embedded import broker as embedded
from k2.cli.embedded import ports
from k2.cli.embedded.child import Child
from k2.common.kafka_connection import KafkaConnection
from k2.ingest.kafka import publisher as module
from k2.ingest.kafka.publisher import Publisher, Topics
from k2.ingest.kafka.resume import partition_of
from k2.ingest.telemetry.stats import Stats
from k2.jobs.spark.jvm.java import find_java
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.records.trade import Side, Trade, message_id

pytestmark = pytest.mark.system

NAMES = Topics("trades", "gaps", "deadletter")
PARTITIONS = 4
SYMBOLS = tuple(f"{base}USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE"))
RESTARTS = int(os.environ.get("K2_TEST_RESTARTS", "60"))


@dataclass
class Proxy:
    """A TCP proxy that can forget its connections: they stay open, and nothing goes through any more."""

    target: int
    _forgotten: set[asyncio.Task[None]] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a new connection."""
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        for source, sink in ((reader, up_writer), (up_reader, writer)):
            self._tasks.add(asyncio.create_task(self._forward(source, sink)))

    @staticmethod
    async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        sink.close()

    def forget(self) -> None:
        """Forward nothing on the connections there are, without closing them."""
        for task in self._tasks:
            task.cancel()
        self._forgotten |= self._tasks
        self._tasks = set()


@dataclass
class Broker:
    """A broker of its own, which tests stop and start. Clients see the advertised `port`."""

    child: Child
    port: int
    ready_port: int

    @property
    def address(self) -> str:
        """Its address for clients."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await self.child.start()
        await embedded.ready(self.child, self.ready_port)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.child.process is not None
        os.kill(self.child.process.pid, number)


@asynccontextmanager
async def broker(folder: Path, *, port: int = 0, advertised: int = 0) -> AsyncIterator[Broker]:
    """A running broker with the three topics; it advertises another port than its own, if one is given."""
    java, port, controller = find_java(), port or ports.free(), ports.free()
    embedded.prepare(java, folder, port, controller)
    if advertised:
        configuration = folder / "server.properties"
        text = configuration.read_text()
        name = f"advertised.listeners=PLAINTEXT://127.0.0.1:{port},"
        assert name in text
        configuration.write_text(text.replace(name, name.replace(str(port), str(advertised))))
    running = Broker(embedded.child(java, folder, folder / "broker.log"), advertised or port, port)
    await running.child.start()
    admin = await embedded.ready(running.child, port)
    topics = [NewTopic(name, PARTITIONS, 1) for name in (NAMES.records, NAMES.gaps, NAMES.dead_letters)]
    try:
        for future in admin.create_topics(topics).values():
            await asyncio.to_thread(future.result, 30)
        yield running
    finally:
        await running.child.stop(10)


class Traffic:
    """Trades sent at a steady pace, and what became of them."""

    def __init__(self, address: str) -> None:
        self.stats = Stats(started_at=time.monotonic())
        self.publisher = Publisher(KafkaConnection(address), TRADES, NAMES, "spot", 7, self.stats)
        self.count = 0

    async def send(self, rate: float = 300.0) -> None:
        """Send until cancelled, unless the circuit is open, as a session does."""
        while True:
            if not self.publisher.blocked:
                self.publisher.send(trade(self.count))
                self.count += 1
            await asyncio.sleep(1 / rate)

    async def acknowledged(self, count: int, within: float) -> None:
        """Wait until so many records are acknowledged."""
        deadline = time.monotonic() + within
        while self.publisher.acknowledged < count:
            assert time.monotonic() < deadline, f"{self.publisher.in_flight} records hang, {self.stats.message}"
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Send in the background; deliver everything at the end."""
        tasks = [asyncio.create_task(self.publisher.run()), asyncio.create_task(self.send())]
        try:
            await self.acknowledged(100, 30)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def check(self, address: str) -> None:
        """Everything sent is in Kafka, counted once, per symbol in order, and every copy has the trade's message id."""
        assert await self.publisher.close(30) == 0
        assert sum(self.stats.delivered.values()) == self.publisher.acknowledged == self.count
        first_seen: dict[str, dict[int, None]] = {}
        for key, number, stored_id in await asyncio.to_thread(lambda: list(stored(address))):
            first_seen.setdefault(key, {}).setdefault(number)
            assert stored_id == str(message_id("BINANCE", key, str(number)))
        for index, symbol in enumerate(SYMBOLS):
            assert list(first_seen[symbol]) == list(range(index, self.count, len(SYMBOLS)))


def trade(number: int) -> Trade:
    symbol = SYMBOLS[number % len(SYMBOLS)]
    return Trade(
        str(number), symbol, "BINANCE", symbol[:-4], "USDT", number * 1000, 100, 1, Side.BUY, time.time_ns() // 1000
    )


def stored(address: str) -> Iterator[tuple[str, int, str]]:
    """Symbol, id and message id of each record, in the order of its partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "test", "log_level": 0})
    try:
        for partition in range(PARTITIONS):
            place = TopicPartition(NAMES.records, partition, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            count = 0
            while count < end:
                for message in consumer.consume(min(1000, end - count), timeout=1.0):
                    count = message.offset() + 1
                    record = avro.decode(message.value()[5:])
                    yield message.key().decode(), int(record["trade_id"]), str(record["message_id"])
    finally:
        consumer.close()


def patience(monkeypatch: pytest.MonkeyPatch, stall: float, confirm: float) -> None:
    monkeypatch.setattr(module, "_STALL_AFTER", stall)
    monkeypatch.setattr(module, "_CONFIRM_AFTER", confirm)
    monkeypatch.setattr(module, "_WATCH_EVERY", 0.2)


async def test_a_producer_whose_connection_is_forgotten_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    patience(monkeypatch, 2.0, 1.0)
    inside, outside = ports.free(), ports.free()
    proxy = Proxy(inside)
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", outside)
    async with broker(tmp_path, port=inside, advertised=outside) as kafka:
        traffic = Traffic(kafka.address)
        async with traffic.flowing():
            for times in (1, 2):
                proxy.forget()
                before = traffic.count
                await asyncio.sleep(0.5)
                await traffic.acknowledged(before + 50, 20)
                assert traffic.stats.errors["producer_replaced"] == times
        await traffic.check(kafka.address)
        server.close()


async def test_a_broker_that_is_halted_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    patience(monkeypatch, 1.0, 5.0)
    monkeypatch.setattr(module.probe.takes_records, "__defaults__", (1.0,))
    async with broker(tmp_path) as kafka:
        traffic = Traffic(kafka.address)
        async with traffic.flowing():
            kafka.signal(signal.SIGSTOP)
            await asyncio.sleep(8)
            kafka.signal(signal.SIGCONT)
            await traffic.acknowledged(traffic.count + 50, 30)
        assert traffic.stats.errors["producer_replaced"] == 0
        assert traffic.stats.stuck == ""
        await traffic.check(kafka.address)


async def test_new_partitions_are_used_within_seconds(tmp_path: Path):
    async with broker(tmp_path) as kafka:
        traffic = Traffic(kafka.address)
        admin = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0})
        consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "test", "log_level": 0})
        new = [partition_of(symbol.encode(), 2 * PARTITIONS) for symbol in SYMBOLS]
        place = TopicPartition(NAMES.records, max(new))
        assert place.partition >= PARTITIONS
        async with traffic.flowing():
            for future in admin.create_partitions([NewPartitions(NAMES.records, 2 * PARTITIONS)]).values():
                await asyncio.to_thread(future.result, 30)
            deadline = time.monotonic() + 15
            end = 0
            while not end:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
                with contextlib.suppress(KafkaException):  # no leader yet
                    _, end = await asyncio.to_thread(consumer.get_watermark_offsets, place, 10)
        assert await traffic.publisher.close(30) == 0
        consumer.close()


@pytest.mark.slow
@pytest.mark.timeout(60 * max(RESTARTS, 5))
async def test_no_graceful_restart_of_the_broker_hangs_the_publisher(tmp_path: Path):
    async with broker(tmp_path) as kafka:
        traffic = Traffic(kafka.address)
        stopping, returning, flowing = [], [], []
        async with traffic.flowing():
            for number in range(RESTARTS):
                began = time.monotonic()
                await kafka.child.stop(20)
                stopping.append(time.monotonic() - began)
                await asyncio.sleep(0.3 * (number % 5))
                began = time.monotonic()
                await kafka.start()
                returning.append(time.monotonic() - began)
                began = time.monotonic()
                await traffic.acknowledged(traffic.count + 20, 60)
                flowing.append(time.monotonic() - began)
        print(f"{RESTARTS} restarts, {traffic.stats.errors['producer_replaced']} producers replaced")
        for what, times in (("stopping", stopping), ("starting", returning), ("until records flow", flowing)):
            print(f"{what}: median {sorted(times)[len(times) // 2]:.1f} s, most {max(times):.1f} s")
        await traffic.check(kafka.address)
