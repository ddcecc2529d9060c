"""A Kafka that answers and refuses: nothing is lost, and what it takes later is as it was."""

import asyncio
import time

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from k2.ingest.kafka.publisher import Publisher, Topics
from k2.ingest.telemetry.stats import Stats
from k2.query.kafka.kafka_reader import RecordReader
from k2.schemas.channels import TRADES
from tests.spark.builders import consecutive
from tests.system.lab import TOPIC, Lab

pytestmark = pytest.mark.system

NEVER = str(2**63 - 1)


def oldest(lab: Lab, milliseconds: str) -> None:
    """How old a record may be that the topic takes."""
    entry = ConfigEntry("message.timestamp.before.max.ms", milliseconds, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[entry])
    lab.admin.incremental_alter_configs([resource])[resource].result(30)


async def test_what_kafka_refused_is_taken_later_with_the_moment_of_its_arrival(lab: Lab):
    trades = consecutive(1, 200)
    stats = Stats(started_at=time.monotonic())
    publisher = Publisher(lab.platform.kafka, TRADES, Topics(TOPIC, TOPIC, TOPIC), "spot", 1, stats)
    publisher._encoder = lab.encoder
    oldest(lab, "1")
    try:
        for trade in trades:
            publisher.send(trade)
        async with asyncio.timeout(60):
            while not stats.unaccepted:
                publisher.poll()
                await asyncio.sleep(0.05)
        assert stats.failures >= len(trades)
        assert sum(stats.delivered.values()) == 0
    finally:
        oldest(lab, NEVER)
    assert await publisher.close(60) == 0
    stored = {}
    records = RecordReader(lab.platform, TRADES)
    places = records.partitions({})
    for batch in records.read(records.beginning_offsets(places), records.end_offsets(places), places):
        stored |= {record.value.trade_id: record for record in batch if not isinstance(record.value, str)}
    assert {number: record.timestamp for number, record in stored.items()} == {
        trade.trade_id: trade.ingestion_timestamp // 1000 for trade in trades
    }
    assert stats.unaccepted == 0
