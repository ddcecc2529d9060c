"""What Kafka knows about topics: whether they exist, which Spark's source needs, their ids and first offsets."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection, TopicPartition, Uuid
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2.common.kafka_connection import ConnectionErrors, KafkaConnection

_TIMEOUT: Final = 5.0  # seconds
_NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"  # of brokers without topic ids


class KafkaUnavailable(ConnectionError):
    """Kafka does not answer, or refuses to describe a topic."""


def missing_topic_reason(kafka: KafkaConnection, topic: str) -> str:
    """Return why a topic cannot be read yet; empty if it exists."""
    # List all topics: a broker may create one that is requested by name.
    errors, client = ConnectionErrors(), None
    try:
        client = AdminClient({**kafka.client(errors), "log_level": 0})
        topics = client.list_topics(timeout=_TIMEOUT).topics
    except KafkaException as error:
        return f"Kafka at {kafka} does not answer: {errors.describe(error, client)}"
    return "" if topic in topics else f"Kafka at {kafka} has no topic {topic}{kafka.restriction} yet"


class KafkaTopics:
    """Looks up what Kafka knows about topics. Keeps its connection."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._errors = ConnectionErrors()
        self._opened: AdminClient | None = None

    def ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the ids that Kafka gave to topics when they were created, without brokers' that have none.

        Raises `KafkaUnavailable`.
        """
        ids = {topic: _text(described.topic_id) for topic, described in self._describe(topics).items()}
        return {topic: topic_id for topic, topic_id in ids.items() if topic_id != _NO_ID}

    def first_offsets(self, topics: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return the first offset that Kafka still has of each partition, by topic. Raises `KafkaUnavailable`."""
        partitions = [
            TopicPartition(topic, partition.id)
            for topic, described in self._describe(topics).items()
            for partition in described.partitions
        ]
        earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        names = sorted({partition.topic for partition in partitions})
        specs = dict.fromkeys(partitions, earliest)
        listed = self._results(names, lambda client: client.list_offsets(specs, request_timeout=_TIMEOUT))
        offsets: dict[str, dict[str, int]] = {}
        for one, result in listed.items():
            offsets.setdefault(one.topic, {})[str(one.partition)] = result.offset
        return offsets

    def _describe(self, topics: Iterable[str]) -> dict[str, Any]:
        names = list(topics)
        collection = TopicCollection(names)
        return self._results(names, lambda client: client.describe_topics(collection, request_timeout=_TIMEOUT))

    def _results(self, names: Iterable[str], ask: Callable[[AdminClient], Mapping[Any, Any]]) -> dict[Any, Any]:
        try:
            if self._opened is None:
                self._opened = AdminClient({**self._kafka.client(self._errors), "log_level": 0})
            return {key: future.result(2 * _TIMEOUT) for key, future in ask(self._opened).items()}
        except (KafkaException, TimeoutError) as error:
            failed, self._opened = self._opened, None  # the next one reads the files of its identity again
            reason = self._errors.describe(error, failed) if isinstance(error, KafkaException) else "no answer in time"
            raise KafkaUnavailable(f"Kafka at {self._kafka}, {', '.join(names)}: {reason}") from error


def _text(topic_id: Uuid) -> str:
    """Return an id as Kafka's own tools print it: librdkafka has `+` and `/` for its `-` and `_`."""
    return str(topic_id).replace("+", "-").replace("/", "_")
