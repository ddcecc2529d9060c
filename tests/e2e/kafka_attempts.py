"""Print what a user of Kafka can do: describe a topic, read it as a member of some groups, write to another topic.

Arguments: the user's name, the files of its password and of the authorities, the brokers, the topic to read, the topic
to write to, and the groups. It runs in a pod, so it imports nothing of K2.
"""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

SECONDS = 8.0


def main(user: str, password: str, authorities: str, bootstrap: str, source: str, target: str, *groups: str) -> None:
    """Make each attempt, and print those that succeed."""
    file = Path(password)
    settings = {
        "bootstrap.servers": bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "ssl.ca.location": authorities,
        "sasl.username": user,
        "sasl.password": file.read_text() if file.exists() else "wrong",
        "log_level": 0,
    }
    attempt("describe", lambda: source in AdminClient(settings).list_topics(timeout=SECONDS).topics)
    for group in groups:
        attempt(f"read {group}", lambda group=group: read(settings, source, group))
    attempt("write", lambda: write(settings, target))
    print("done")


def attempt(what: str, call: Callable[[], bool]) -> None:
    """Print what succeeds."""
    try:
        succeeded = call()
    except KafkaException as error:
        print(f"{what}: {error}", file=sys.stderr)
    else:
        if succeeded:
            print(what)


def read(settings: dict[str, Any], topic: str, group: str) -> bool:
    """Read a record, which needs the topic, and commit its offset, which needs the group."""
    with closing(Consumer({**settings, "group.id": group})) as consumer:
        partitions = consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        message = consumer.poll(SECONDS)
        if message is None or message.error():
            return False
        consumer.commit(message, asynchronous=False)
        return True


def write(settings: dict[str, Any], topic: str) -> bool:
    """Write a record and wait for its acknowledgement."""
    errors: list[Any] = []
    producer = Producer({**settings, "message.timeout.ms": int(SECONDS * 1000)})
    producer.produce(topic, b"{}", b"e2e", on_delivery=lambda error, _: errors.append(error))
    producer.flush(SECONDS * 2)
    return [error is None for error in errors] == [True]


if __name__ == "__main__":
    main(*sys.argv[1:])
