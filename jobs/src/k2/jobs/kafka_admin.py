"""What Kafka knows about topics: whether they exist, which Spark's source needs, their ids and first offsets."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection, TopicPartition, Uuid
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

_TIMEOUT: Final = 5.0  # seconds
_NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"  # of brokers without topic ids


class KafkaUnavailable(ConnectionError):
    """Kafka does not answer, or refuses to describe a topic."""


def missing_topic_reason(bootstrap: str, topic: str) -> str:
    """Return why a topic cannot be read yet; empty if it exists."""
    # List all topics: a broker may create one that is requested by name.
    try:
        topics = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=_TIMEOUT).topics
    except KafkaException as error:
        return f"Kafka at {bootstrap} does not answer: {error.args[0].str()}"
    return "" if topic in topics else f"Kafka at {bootstrap} has no topic {topic} yet"


class KafkaTopics:
    """Looks up what Kafka knows about topics. Keeps its connection."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
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
        listed = self._results(self._client.list_offsets(dict.fromkeys(partitions, earliest), request_timeout=_TIMEOUT))
        offsets: dict[str, dict[str, int]] = {}
        for one, result in listed.items():
            offsets.setdefault(one.topic, {})[str(one.partition)] = result.offset
        return offsets

    @property
    def _client(self) -> AdminClient:
        if self._opened is None:
            self._opened = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})
        return self._opened

    def _describe(self, topics: Iterable[str]) -> dict[str, Any]:
        return self._results(self._client.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT))

    def _results(self, futures: Mapping[Any, Any]) -> dict[Any, Any]:
        try:
            return {key: future.result(2 * _TIMEOUT) for key, future in futures.items()}
        except (KafkaException, TimeoutError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
            names = sorted({key if isinstance(key, str) else key.topic for key in futures})
            raise KafkaUnavailable(f"Kafka at {self._bootstrap}, {', '.join(names)}: {reason}") from error


def _text(topic_id: Uuid) -> str:
    """Return an id as Kafka's own tools print it: librdkafka has `+` and `/` for its `-` and `_`."""
    return str(topic_id).replace("+", "-").replace("/", "_")
