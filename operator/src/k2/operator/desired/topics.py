"""KafkaTopics: the feed's trades, and its exchange's gap events and dead letters, which feeds of one exchange share."""

from collections.abc import Iterator
from typing import Final

from k2.operator.desired.naming import MANAGER, Manifest, metadata, topic_object_name
from k2.operator.settings import Settings
from k2.schemas import topics
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.values import seconds

CLUSTER: Final = "strimzi.io/cluster"

_MOST_BYTES: Final = "2200000"  # a frame of 1 MiB, twice, as a dead letter with its headers
_DEAD_LETTERS_KEPT: Final = "168h"
_FOR_EVER: Final = "-1"


def kafka_topics(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """The topics that Strimzi makes; none where it is not told which Kafka is meant."""
    if settings.kafka_cluster:
        yield trades_topic(feed, settings)
        for name, kept in (
            (topics.gaps(feed.spec.exchange), _FOR_EVER),  # they are the ledger's source, and few
            (topics.deadletter(feed.spec.exchange), _milliseconds(_DEAD_LETTERS_KEPT)),
        ):
            yield _shared(feed, settings, name, kept)


def trades_topic(feed: ExchangeFeed, settings: Settings) -> Manifest:
    """The KafkaTopic of the feed's trades."""
    found = _topic(settings, feed.topic, feed.partitions, _milliseconds(feed.spec.kafka.retention))
    found["metadata"] = _place(feed, settings, metadata(feed, topic_object_name(feed.topic), "topic"))
    found["metadata"]["labels"][CLUSTER] = settings.kafka_cluster
    return found


def _shared(feed: ExchangeFeed, settings: Settings, name: str, kept: str) -> Manifest:
    """A topic that is the same whichever feed asks for it, and so bears no feed's name."""
    found = _topic(settings, name, 1, kept)
    known = {"app.kubernetes.io/part-of": "k2", "app.kubernetes.io/managed-by": MANAGER}
    named = {"name": topic_object_name(name), "namespace": feed.metadata.namespace}
    found["metadata"] = _place(feed, settings, {**named, "labels": {**known, CLUSTER: settings.kafka_cluster}})
    return found


def _topic(settings: Settings, name: str, partitions: int, kept: str) -> Manifest:
    config = {"retention.ms": kept, "max.message.bytes": _MOST_BYTES, "compression.type": "producer"}
    replicas = {"replicas": settings.kafka_replicas} if settings.kafka_replicas else {}
    return {
        "apiVersion": f"kafka.strimzi.io/{settings.kafka_topic_version}",
        "kind": "KafkaTopic",
        "spec": {"topicName": name, "partitions": partitions, **replicas, "config": config},
    }


def _place(feed: ExchangeFeed, settings: Settings, found: Manifest) -> Manifest:
    return {**found, "namespace": settings.kafka_namespace or feed.metadata.namespace}


def _milliseconds(duration: str) -> str:
    return str(int(seconds(duration) * 1000))
