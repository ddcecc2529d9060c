"""Checks for Kafka topics, which Spark's Kafka source needs to exist before it starts."""

from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_TIMEOUT: Final = 5.0  # seconds


def missing_topic_reason(bootstrap: str, topic: str) -> str:
    """Return why a topic cannot be read yet; empty if it exists."""
    # List all topics: a broker may create one that is requested by name.
    try:
        topics = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=_TIMEOUT).topics
    except KafkaException as error:
        return f"Kafka at {bootstrap} does not answer: {error.args[0].str()}"
    return "" if topic in topics else f"Kafka at {bootstrap} has no topic {topic} yet"
