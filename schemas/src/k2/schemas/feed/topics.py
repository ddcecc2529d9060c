"""Kafka topics of a feed with their partitions and configuration, for the operator and for the embedded broker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from k2.schemas import topics
from k2.schemas.channels import Channel
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.values import seconds

MAX_MESSAGE_BYTES: Final = 2_200_000  # a frame of 1 MiB, twice, as a dead letter with its headers
DEAD_LETTER_RETENTION: Final = "168h"
_UNLIMITED: Final = "-1"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic. A `shared` one belongs to the exchange and is the same for all of its feeds."""

    name: str
    partitions: int
    config: Mapping[str, str]
    shared: bool


def record_topic(feed: ExchangeFeed, channel: Channel) -> TopicSpec:
    """Return the topic of the feed's records of a channel."""
    return _spec(feed.topic(channel), feed.partitions(channel), _milliseconds(feed.spec.kafka.retention), shared=False)


def feed_topics(feed: ExchangeFeed, dead_letter_retention: str = DEAD_LETTER_RETENTION) -> tuple[TopicSpec, ...]:
    """Return the topics of the feed's channels, then those that its exchange's feeds share."""
    exchange = feed.spec.exchange
    return (
        *(record_topic(feed, channel) for channel in feed.channels),
        # Gap events are few, and the source from which the gap tracking resumes: they are never deleted.
        _spec(topics.gaps(exchange), 1, _UNLIMITED, shared=True),
        _spec(topics.evidence(exchange), 1, _UNLIMITED, shared=True),
        _spec(topics.instruments(exchange), 1, _UNLIMITED, shared=True),
        _spec(topics.dead_letters(exchange), 1, _milliseconds(dead_letter_retention), shared=True),
    )


def _spec(name: str, partitions: int, retention: str, *, shared: bool) -> TopicSpec:
    config = {
        "retention.ms": retention,
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "compression.type": "producer",
    }
    return TopicSpec(name, partitions, config, shared)


def _milliseconds(duration: str) -> str:
    return str(int(seconds(duration) * 1000))
