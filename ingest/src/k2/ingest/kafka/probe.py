"""Whether Kafka takes records, asked over connections of its own."""

from typing import Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2.common import logs
from k2.common.kafka_connection import KafkaConnection
from k2.ingest.kafka.partitions import partition_of

log = logs.get("probe")

_TIMEOUT: Final = 5.0  # seconds for each of two requests


def takes_records(kafka: KafkaConnection, topic: str, key: str, timeout: float = _TIMEOUT) -> bool:
    """Return whether the leader of the partition of `key` answers, and most replicas are in sync. Blocks.

    A partition without a leader, or with too few replicas, makes any producer wait: that is no fault of this one.
    """
    try:
        client = AdminClient({**kafka.client(), "log_level": 0})
        partitions = client.list_topics(topic, timeout=timeout).topics[topic].partitions
        number = partition_of(key.encode(), len(partitions))
        partition = partitions[number]
        if partition.error is not None or 2 * len(partition.isrs) <= len(partition.replicas):
            return False
        newest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        requested = client.list_offsets({TopicPartition(topic, number): newest}, request_timeout=timeout)
        for future in requested.values():
            future.result(timeout)
    except (KafkaException, TimeoutError, KeyError, ZeroDivisionError) as error:
        log.info("Kafka does not answer a fresh connection", error=str(error))
        return False
    return True
