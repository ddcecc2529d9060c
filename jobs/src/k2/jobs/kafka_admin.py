"""Kafka's own word on its topics: what a query must wait for, since Spark's source fails without it."""

from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_TIMEOUT: Final = 5.0  # seconds


def lacks(bootstrap: str, topic: str) -> str:
    """Why a topic cannot be read yet; empty if it is there."""
    # All topics: asked for one by name, a broker may create it.
    try:
        there = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=_TIMEOUT).topics
    except KafkaException as error:
        return f"Kafka at {bootstrap} does not answer: {error.args[0].str()}"
    return "" if topic in there else f"Kafka at {bootstrap} has no topic {topic} yet"
