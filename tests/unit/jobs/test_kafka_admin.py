"""The check that a Kafka topic exists before a query reads it."""

import gc
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from k2.common.kafka_connection import KafkaConnection
from k2.jobs.kafka_admin import missing_topic_reason


@pytest.fixture
def producer() -> Iterator[Producer]:
    """A producer with librdkafka's mock broker, which lives as long as the producer."""
    yield Producer({"test.mock.num.brokers": 1, "log_level": 0})
    gc.collect()


def test_a_topic_is_missing_until_it_is_created(producer: Producer):
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    bootstrap = f"{broker.host}:{broker.port}"
    assert (
        missing_topic_reason(KafkaConnection(bootstrap), "t.trades")
        == f"Kafka at {bootstrap} has no topic t.trades yet"
    )
    producer.list_topics("t.trades", timeout=10)  # creates the topic
    assert not missing_topic_reason(KafkaConnection(bootstrap), "t.trades")


def test_an_unreachable_broker_is_reported():
    assert missing_topic_reason(KafkaConnection("127.0.0.1:1"), "t.trades").startswith(
        "Kafka at 127.0.0.1:1 does not answer: "
    )
