"""Checks for Kafka topics: whether they exist, which Spark's Kafka source needs before it starts, and their ids."""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient

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


class TopicIds:
    """Looks up the ids that Kafka gave to topics when they were created. Keeps its connection."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._client: AdminClient | None = None

    def of(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the ids of some topics by name, without brokers' that have none. Raises `KafkaUnavailable`."""
        if self._client is None:
            self._client = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})
        described = self._client.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT)
        try:
            ids = {topic: _text(future.result().topic_id) for topic, future in described.items()}
        except KafkaException as error:
            raise KafkaUnavailable(
                f"Kafka at {self._bootstrap} does not describe {', '.join(described)}: {error.args[0].str()}"
            ) from error
        return {topic: topic_id for topic, topic_id in ids.items() if topic_id != _NO_ID}


def _text(topic_id: Uuid) -> str:
    """Return an id as Kafka's own tools print it: librdkafka has `+` and `/` for its `-` and `_`."""
    return str(topic_id).replace("+", "-").replace("/", "_")
