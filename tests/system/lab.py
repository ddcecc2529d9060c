"""A real broker and registry, and Gold in a folder: what comes when is up to the test. No Spark runs."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from k2.cli.embedded import broker as embedded
from k2.cli.embedded import ports
from k2.common.platform import Platform
from k2.common.schema_registry import Registry
from k2.jobs.spark.jvm.java import find_java
from k2.query.iceberg import catalog, tables
from k2.schemas import topics
from k2.schemas.channels import exchange_tables
from k2.schemas.codecs import avro
from k2.schemas.records.trade import Trade
from k2.schemas.snapshots import EXCHANGE, FRONTIER, QUERY
from k2.schemas.tables import GOLD_TABLE
from tests.spark.builders import as_record

TOPIC = topics.trades("binance")


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A broker of its own; gives its address."""
    java, port, controller = find_java(), ports.free(), ports.free()
    embedded.prepare(java, folder, port, controller)
    child = embedded.child(java, folder, folder / "broker.log")

    async def start() -> None:
        await child.start()
        await embedded.ready(child, port)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(start())
        yield f"127.0.0.1:{port}"
    finally:
        loop.run_until_complete(child.stop(10))
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Lab:
    """Kafka's trades and Gold's, as one test wants them."""

    platform: Platform
    partitions: int = 2
    encoder: avro.TradeEncoder = field(init=False)

    def __post_init__(self) -> None:
        self.admin = AdminClient({"bootstrap.servers": self.platform.kafka_bootstrap, "log_level": 0})
        self.producer = Producer({"bootstrap.servers": self.platform.kafka_bootstrap, "linger.ms": 0, "log_level": 0})
        self.empty()  # a test before may have been interrupted
        self.encoder = avro.TradeEncoder(self.create(TOPIC))
        with closing(catalog.connect(self.platform, create=True)) as opened:
            tables.ensure(opened, exchange_tables("binance"))

    def create(self, topic: str) -> int:
        """Makes a topic, waits until it can be written, and registers its schema; gives the schema's id."""
        settings = {"retention.ms": "-1"}  # trades are of whatever day a test likes
        self.admin.create_topics([NewTopic(topic, self.partitions, 1, config=settings)])[topic].result(30)
        return Registry(self.platform.registry).register(topics.subject(topic), avro.text())

    def empty(self) -> None:
        """Deletes every topic of trades, and waits until they are gone."""
        while names := [name for name in self.admin.list_topics(timeout=60).topics if not name.startswith("__")]:
            for future in self.admin.delete_topics(names).values():
                try:
                    future.result(60)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # deleted already, and listed still
                        raise
            time.sleep(0.05)

    def send(self, *trades: Trade, partition: int = 0, topic: str = TOPIC) -> None:
        """Puts trades into Kafka; they are there when it returns."""
        for trade in trades:
            self.put(self.encoder.encode(trade), trade.symbol, trade.ingestion_timestamp // 1000, partition, topic)
        assert self.producer.flush(60) == 0

    def put(self, value: bytes, key: str, at: int, partition: int = 0, topic: str = TOPIC) -> None:
        """Hands one record to the producer."""
        self.producer.produce(topic, value, key, partition=partition, timestamp=at)

    def commit(
        self, trades: Sequence[Trade], frontier: Mapping[int, int], *, query: str = "one", topic: str = TOPIC
    ) -> int:
        """Commits trades to Gold as a job does, and says how far it has come; gives the snapshot."""
        with closing(catalog.connect(self.platform)) as opened:
            gold = opened.load_table(tables.identifier(GOLD_TABLE))
            document = {topic: {str(partition): offset for partition, offset in frontier.items()}}
            properties = {FRONTIER: json.dumps(document), QUERY: query, EXCHANGE: "BINANCE"}
            rows = pa.Table.from_pylist([_gold(trade) for trade in trades], schema=gold.schema().as_arrow())
            gold.append(rows, snapshot_properties=properties)
            snapshot = gold.current_snapshot()
            assert snapshot is not None
            return snapshot.snapshot_id


def _gold(trade: Trade) -> dict[str, Any]:
    row = as_record(trade)
    at = row["timestamp"]
    more = {"gold_ingestion_timestamp": at, "exchange_date": at.date(), "exchange_hour": at.hour}
    return row | {"vendor_data": json.dumps(row["vendor_data"], separators=(",", ":"))} | more
