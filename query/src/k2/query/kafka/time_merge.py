"""Merge the records of several partitions by Kafka's timestamp.

A broker returns one partition after the other, in large batches. Deduplication remembers a bounded number of ids, so
records of about the same time must be processed at about the same time.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from k2.query.kafka.records import ConsumedRecord, TopicPartition

P = TypeVar("P", bound=ConsumedRecord[Any])


class TimeMerge(Generic[P]):
    """Accept records as they arrive, and return them merged. Records of one partition keep their order."""

    def __init__(self, partitions: Iterable[TopicPartition]) -> None:
        self._waiting: dict[TopicPartition, deque[P]] = {topic_partition: deque() for topic_partition in partitions}
        self._open = set(self._waiting)

    def add(self, records: Iterable[P]) -> None:
        """Add records of any of the partitions."""
        for record in records:
            self._waiting[record.topic_partition].append(record)

    def finish(self, partitions: Iterable[TopicPartition]) -> None:
        """Mark partitions that receive no more records."""
        self._open.difference_update(partitions)

    def backlogged(self, max_records: int) -> set[TopicPartition]:
        """Return the partitions with at least `max_records` waiting for the others."""
        return {topic_partition for topic_partition, waiting in self._waiting.items() if len(waiting) >= max_records}

    def ready(self) -> list[P]:
        """Return the records that can be returned: up to where an unfinished partition has none left."""
        if any(not self._waiting[topic_partition] for topic_partition in self._open):
            return []
        heads = [
            (waiting[0].timestamp, topic_partition) for topic_partition, waiting in self._waiting.items() if waiting
        ]
        heapq.heapify(heads)
        merged: list[P] = []
        while heads:
            _, topic_partition = heads[0]
            waiting = self._waiting[topic_partition]
            merged.append(waiting.popleft())
            if waiting:
                heapq.heapreplace(heads, (waiting[0].timestamp, topic_partition))
            elif topic_partition in self._open:
                break
            else:
                heapq.heappop(heads)
        return merged


def merge_by_time(records: Iterable[P]) -> list[P]:
    """Merge a complete set of records."""
    merged = list(records)
    merge: TimeMerge[P] = TimeMerge({record.topic_partition for record in merged})
    merge.add(merged)
    merge.finish({record.topic_partition for record in merged})
    return merge.ready()
