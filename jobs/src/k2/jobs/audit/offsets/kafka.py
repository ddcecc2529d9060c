"""What Kafka holds beyond Bronze's commits: lag, by partition."""

import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2.common import logs
from k2.common.kafka_connection import ConnectionErrors, KafkaConnection
from k2.jobs.audit.offsets import bitmaps
from k2.jobs.kafka_admin import KafkaTopics, KafkaUnavailable
from k2.schemas import topics

log = logs.get("audit")

_TIMEOUT: Final = 5.0  # seconds


def unread(
    kafka: KafkaConnection, committed: Mapping[bitmaps.TopicPartition, int]
) -> dict[bitmaps.TopicPartition, int] | None:
    """Return how many offsets follow the last committed one of each partition of these topics; None if Kafka is down.

    Offsets that Kafka's retention has deleted are not counted.
    """
    if not any(map(_answers, kafka.bootstrap.split(","))):
        return None
    errors, client = ConnectionErrors(), None
    try:
        client = AdminClient({**kafka.client(errors), "log_level": 0})
        return _unread(kafka, client, committed)
    except (KafkaException, KafkaUnavailable, TimeoutError) as error:
        why = errors.describe(error, client) if isinstance(error, KafkaException) else str(error)
        log.warning("offsets of Kafka not read", error=why)
        return None


def _unread(
    kafka: KafkaConnection, client: AdminClient, committed: Mapping[bitmaps.TopicPartition, int]
) -> dict[bitmaps.TopicPartition, int]:
    # List all topics: a broker may create one that is requested by name.
    listed = client.list_topics(timeout=_TIMEOUT).topics
    present = [name for name, _ in committed if topics.in_kafka(name) in listed]
    names = current_names(present, KafkaTopics(kafka).ids)
    partitions = [(topic, number) for topic in sorted(names) for number in sorted(listed[topic].partitions)]
    specs = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
    first, after = (_offsets(client, partitions, spec) for spec in specs)
    counts = {
        (topic, number): after[topic, number] - max(first[topic, number], committed.get((names[topic], number), -1) + 1)
        for topic, number in partitions
    }
    return {key: count for key, count in counts.items() if count > 0}


def current_names(names: Iterable[str], look_up: Callable[[Iterable[str]], Mapping[str, str]]) -> dict[str, str]:
    """Return, by topic in Kafka, the name that tables have for its records, given all their names of topics.

    `look_up` returns the ids of topics in Kafka; it is asked for those that were made again.
    """
    named = set(names)
    again = {topics.in_kafka(name) for name in named if name != topics.in_kafka(name)}
    ids = look_up(sorted(again)) if again else {}
    current = {topics.in_kafka(name): topics.in_kafka(name) for name in named}
    return current | {topic: topics.remade(topic, topic_id) for topic, topic_id in ids.items()}


def _offsets(
    client: AdminClient, partitions: list[bitmaps.TopicPartition], spec: OffsetSpec
) -> dict[bitmaps.TopicPartition, int]:
    results = client.list_offsets(
        {TopicPartition(topic, number): spec for topic, number in partitions}, request_timeout=_TIMEOUT
    )
    return {(one.topic, one.partition): result.result(_TIMEOUT).offset for one, result in results.items()}


def _answers(server: str) -> bool:
    """Whether a server accepts connections: Kafka's own client would wait for one that is down."""
    host, _, port = server.strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except (OSError, ValueError):
        return False
    return True
