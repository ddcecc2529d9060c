"""What Kafka holds beyond Bronze's commits: lag, by partition."""

import socket
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2.common import logs
from k2.jobs.audit.offsets import bitmaps

log = logs.get("audit")

_TIMEOUT: Final = 5.0  # seconds


def unread(bootstrap: str, committed: Mapping[bitmaps.TopicPartition, int]) -> dict[bitmaps.TopicPartition, int] | None:
    """Return how many offsets follow the last committed one of each partition of these topics; None if Kafka is down.

    Offsets that Kafka's retention has deleted are not counted.
    """
    if not any(map(_answers, bootstrap.split(","))):
        return None
    try:
        return _unread(AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}), committed)
    except (KafkaException, TimeoutError) as error:
        log.warning("offsets of Kafka not read", error=str(error))
        return None


def _unread(client: AdminClient, committed: Mapping[bitmaps.TopicPartition, int]) -> dict[bitmaps.TopicPartition, int]:
    # List all topics: a broker may create one that is requested by name.
    listed = client.list_topics(timeout=_TIMEOUT).topics
    partitions = [
        (topic, number) for topic in sorted({topic for topic, _ in committed} & set(listed))
        for number in sorted(listed[topic].partitions)
    ]  # fmt: skip
    specs = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
    first, after = (_offsets(client, partitions, spec) for spec in specs)
    counts = {key: after[key] - max(first[key], committed.get(key, -1) + 1) for key in partitions}
    return {key: count for key, count in counts.items() if count > 0}


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
