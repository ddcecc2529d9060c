"""A producer that hangs is replaced: every record is delivered, in order, and counted once.

A producer of no broker stands for one whose brokers are gone: it holds its records for ever and says nothing.
"""

import asyncio
import gc
import time
from collections import Counter

import pytest
from confluent_kafka import KafkaError

from k2.common.kafka_connection import KafkaConnection
from k2.ingest.exchanges.base import Gap
from k2.ingest.kafka import producer_settings
from k2.ingest.kafka import publisher as module
from k2.ingest.kafka.probe import takes_records
from k2.ingest.kafka.publisher import ProducerFatal, Publisher
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.simulator.listings import pair_of
from k2.ingest.telemetry.server import unhealthy
from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side, Trade

NOWHERE = "127.0.0.1:1"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    # A good producer's first connection takes up to half a second on a busy machine: less would replace it as well.
    for name, seconds in (("_WATCH_EVERY", 0.02), ("_STALL_AFTER", 1.0), ("_CONFIRM_AFTER", 0.2)):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def stats():
    return Stats(started_at=time.monotonic())


def trade(number: int) -> Trade:
    symbol = SYMBOLS[number % 3]
    return Trade(
        str(number), symbol, "BINANCE", symbol[:3], "USDT", number * 1000, 100, 1, Side.BUY, 1_700_000_000_000_000,
        (("source", "live"),),
    )  # fmt: skip


@pytest.fixture
def hanging(broker, names, stats):
    """A publisher whose first producer knows no broker, though Kafka is there."""
    publisher = Publisher(KafkaConnection(NOWHERE), TRADES, names, "spot", 7, stats)
    publisher._kafka = KafkaConnection(broker.bootstrap)
    yield publisher
    gc.collect()


def ids_by_symbol(broker, names) -> dict[bytes, list[int]]:
    stored: dict[bytes, list[int]] = {}
    for message in broker.read(names.records):
        stored.setdefault(message.key(), []).append(int(avro.decode(message.value()[5:])["trade_id"]))
    return stored


async def test_the_records_of_a_producer_that_hangs_are_delivered_by_another_in_order(
    broker, names, hanging, stats, eventually
):
    running = asyncio.create_task(hanging.run())
    for number in range(3000):
        hanging.send(trade(number))
    ledger = GapLedger("spot", "trades", "BINANCE", hanging, stats)
    opened = ledger.open(Gap(pair_of(EXCHANGES["binance"], "BTCUSDT"), 11, 14, 1, 2))
    hanging.send_dead_letter(b"x", "MALFORMED_FRAME", "because")
    assert hanging.in_flight == 3002
    await eventually(lambda: hanging.in_flight == 0)
    await asyncio.wait_for(opened, 1)
    hanging.send(trade(3000))
    await eventually(lambda: hanging.in_flight == 0)
    running.cancel()
    assert stats.errors["producer_replaced"] == 1
    assert sum(stats.delivered.values()) == 3001
    assert (hanging.sent, hanging.acknowledged, stats.unaccepted) == (3003, 3003, 0)
    for symbol, ids in ids_by_symbol(broker, names).items():
        assert ids == [number for number in range(3001) if SYMBOLS[number % 3].encode() == symbol]
    (letter,) = broker.read(names.dead_letters)
    assert dict(letter.headers())["k2-reason"] == b"because"
    assert len(broker.read(names.gaps)) == 1
    assert broker.read(names.records)[0].timestamp()[1] == 1_700_000_000_000


async def test_a_producer_whose_broker_is_gone_keeps_its_records_and_waits(names, stats):
    waiting = Publisher(KafkaConnection(NOWHERE), TRADES, names, "spot", 7, stats)
    running = asyncio.create_task(waiting.run())
    waiting.send(trade(1))
    await asyncio.sleep(2.0)
    assert not running.done()
    running.cancel()
    assert (waiting.in_flight, stats.errors["producer_replaced"], stats.stuck) == (1, 0, "")
    assert unhealthy(stats, time.monotonic()) == ""


async def test_the_process_ends_if_new_producers_hang_as_well(broker, hanging, stats, eventually, monkeypatch):
    settings = producer_settings.of
    monkeypatch.setattr(producer_settings, "of", lambda _, *limits: settings(KafkaConnection(NOWHERE), *limits))
    running = asyncio.create_task(hanging.run())
    hanging.send(trade(1))
    await eventually(lambda: stats.stuck)
    assert "Kafka answers, but 1 records are not acknowledged" in unhealthy(stats, time.monotonic())
    with pytest.raises(ProducerFatal, match=r"Kafka answers, but 1 records .*; 2 new producers did not help"):
        await asyncio.wait_for(running, 10)
    assert stats.errors["producer_replaced"] == 2
    assert not stats.delivered


async def test_reports_of_an_abandoned_producer_count_once(broker, names, hanging, stats):
    hanging.send(trade(1))
    hanging.send(trade(2))
    message, first, second = hanging._unacknowledged[2], hanging._report_on(1), hanging._report_on(2)
    hanging.replace_producer()

    class Delivered:
        @staticmethod
        def key() -> bytes:
            return message[2].encode()

    second(None, Delivered())  # it had been delivered after all
    assert (hanging.acknowledged, sum(stats.delivered.values())) == (1, 1)
    assert await hanging.close(10) == 0
    assert (hanging.acknowledged, sum(stats.delivered.values())) == (2, 2)
    for report in (first, second):
        report(None, Delivered())
        report(KafkaError(KafkaError._PURGE_QUEUE), Delivered())
    assert (hanging.acknowledged, sum(stats.delivered.values()), stats.failures, hanging.in_flight) == (2, 2, 0, 0)
    assert Counter(number for ids in ids_by_symbol(broker, names).values() for number in ids) == {1: 1, 2: 1}


def test_a_probe_tells_whether_kafka_takes_records(broker, names):
    assert takes_records(KafkaConnection(broker.bootstrap), names.records, "BTCUSDT")
    assert not takes_records(KafkaConnection(NOWHERE), names.records, "BTCUSDT", timeout=0.3)


def test_a_loop_that_no_longer_moves_is_unhealthy_and_kafka_being_down_is_not():
    stats = Stats(started_at=0.0)
    assert unhealthy(stats, 1000.0) == ""  # nothing runs yet
    stats.heartbeats["publisher"] = 1000.0
    stats.circuit, stats.message, stats.in_flight = 2, "all brokers down", 100_000
    assert unhealthy(stats, 1030.0) == ""
    assert unhealthy(stats, 1031.0) == "the publisher loop has not moved for 31 s"
