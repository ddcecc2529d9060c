"""What Kafka has, as the jobs ask it before they read."""

import gc
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from k2.jobs.kafka_admin import lacks


@pytest.fixture
def holder() -> Iterator[Producer]:
    """librdkafka's own test broker lives as long as this producer."""
    yield Producer({"test.mock.num.brokers": 1, "log_level": 0})
    gc.collect()


def test_a_topic_is_lacking_until_it_is_there(holder: Producer):
    (found,) = holder.list_topics(timeout=10).brokers.values()
    bootstrap = f"{found.host}:{found.port}"
    assert lacks(bootstrap, "t.trades") == f"Kafka at {bootstrap} has no topic t.trades yet"
    holder.list_topics("t.trades", timeout=10)  # which creates it
    assert not lacks(bootstrap, "t.trades")


def test_a_kafka_that_does_not_answer_is_told_as_such():
    assert lacks("127.0.0.1:1", "t.trades").startswith("Kafka at 127.0.0.1:1 does not answer: ")
