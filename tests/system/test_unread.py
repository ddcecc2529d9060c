"""What a broker holds beyond the committed offsets."""

import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from k2.common.kafka_connection import KafkaConnection
from k2.jobs.audit.offsets.kafka import unread

pytestmark = pytest.mark.system


def test_offsets_after_the_committed_ones_are_unread_by_partition(kafka: str):
    topic = f"unread-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": kafka})
    (created,) = admin.create_topics([NewTopic(topic, 3, 1)]).values()
    created.result(10)
    producer = Producer({"bootstrap.servers": kafka})
    for partition, count in ((0, 5), (1, 2)):
        for _ in range(count):
            producer.produce(topic, b"value", partition=partition)
    assert producer.flush(10) == 0
    assert unread(KafkaConnection(kafka), {(topic, 0): 1}) == {(topic, 0): 3, (topic, 1): 2}
    assert unread(KafkaConnection(kafka), {(topic, 0): 4, (topic, 1): 1}) == {}
    assert unread(KafkaConnection(kafka), {("another", 0): 4}) == {}


def test_of_a_broker_that_is_down_nothing_is_known():
    assert unread(KafkaConnection("127.0.0.1:9"), {("topic", 0): 1}) is None
