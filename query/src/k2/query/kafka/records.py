"""Records as they are read from Kafka, and the partitions that they come from."""

from typing import Generic, NamedTuple, TypeVar

from k2.query.kafka.row_types import Row

T = TypeVar("T")

TopicPartition = tuple[str, int]  # the topic's name and the partition's number


class ConsumedRecord(NamedTuple, Generic[T]):
    """One record of a partition, with its decoded value. `timestamp` is Kafka's, in milliseconds since 1970 (UTC)."""

    topic_partition: TopicPartition
    offset: int
    timestamp: int
    value: T


class Frame(NamedTuple):
    """One frame that an ingest could not parse. `body` is empty where only its size was asked for.

    `items` is the JSON list of its invalid items, empty if the frame is invalid as a whole. `feed` is the name of the
    feed whose ingest received it.
    """

    exchange: str
    error: str
    reason: str
    size: int
    body: bytes
    items: str = ""
    feed: str = ""


# The row of a valid record, or the category of the rule that it breaks. A category is a text, never a tuple.
ValidatedRecord = ConsumedRecord[Row | str]
