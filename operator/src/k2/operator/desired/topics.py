"""KafkaTopics: the records of the feed, and the gap events and dead letters that all feeds of an exchange share."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from k2.operator.desired.naming import MANAGER, Manifest, metadata, topic_object_name
from k2.operator.settings import Settings
from k2.schemas.channels import CHANNELS
from k2.schemas.feed import topics
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.feed.topics import TopicSpec

CLUSTER: Final = "strimzi.io/cluster"


def kafka_topics(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """Yield the topics for Strimzi to create; none if no Kafka cluster is configured."""
    if settings.kafka_cluster:
        for topic in topics.feed_topics(feed):
            yield _shared(feed, settings, topic) if topic.shared else _own(feed, settings, topic)


def unused_topics(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """Yield the topics of the channels that the feed does not record. They exist if it did before."""
    if settings.kafka_cluster:
        for channel in CHANNELS:
            if channel not in feed.channels:
                yield _own(feed, settings, topics.record_topic(feed, channel))


def with_replicas_of(manifest: Manifest, live: Mapping[str, Any]) -> Manifest:
    """Return a topic's manifest with the replication factor of the live topic.

    Strimzi's topic operator changes none, and takes one that differs for an error.
    """
    spec = {name: value for name, value in manifest["spec"].items() if name != "replicas"}
    replicas = (live.get("spec") or {}).get("replicas")
    return {**manifest, "spec": spec if replicas is None else spec | {"replicas": replicas}}


def _own(feed: ExchangeFeed, settings: Settings, topic: TopicSpec) -> Manifest:
    """Return a topic of the feed's records."""
    labelled = metadata(feed, topic_object_name(topic.name), "topic")
    labelled["labels"][CLUSTER] = settings.kafka_cluster
    return _manifest(feed, settings, topic, labelled)


def _shared(feed: ExchangeFeed, settings: Settings, topic: TopicSpec) -> Manifest:
    """Return a topic of the exchange. It is the same for every feed and does not carry a feed's labels."""
    labels = {
        "app.kubernetes.io/part-of": "k2",
        "app.kubernetes.io/managed-by": MANAGER,
        CLUSTER: settings.kafka_cluster,
    }
    return _manifest(feed, settings, topic, {"name": topic_object_name(topic.name), "labels": labels})


def _manifest(feed: ExchangeFeed, settings: Settings, topic: TopicSpec, labelled: Manifest) -> Manifest:
    replicas = {"replicas": settings.kafka_replicas} if settings.kafka_replicas else {}
    return {
        "apiVersion": f"kafka.strimzi.io/{settings.kafka_topic_version}",
        "kind": "KafkaTopic",
        "metadata": {**labelled, "namespace": settings.kafka_namespace or feed.metadata.namespace},
        "spec": {"topicName": topic.name, "partitions": topic.partitions, **replicas, "config": dict(topic.config)},
    }
