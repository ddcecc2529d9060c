"""Records of several partitions are merged by time, those of one partition in their own order."""

import random

from k2.query.kafka.records import ConsumedRecord, TopicPartition
from k2.query.kafka.time_merge import TimeMerge, merge_by_time

A: TopicPartition = ("trades", 0)
B: TopicPartition = ("trades", 1)


def records_at(topic_partition: TopicPartition, *times: int, first: int = 0) -> list[ConsumedRecord[str]]:
    return [ConsumedRecord(topic_partition, first + number, time, "") for number, time in enumerate(times)]


def times(merged: list[ConsumedRecord[str]]) -> list[int]:
    return [record.timestamp for record in merged]


def test_records_wait_for_earlier_ones_of_other_partitions() -> None:
    merge: TimeMerge[ConsumedRecord[str]] = TimeMerge([A, B])
    merge.add(records_at(A, 1, 2, 5))
    assert merge.ready() == []
    assert merge.backlogged(3) == {A}
    merge.add(records_at(B, 3))
    assert times(merge.ready()) == [1, 2, 3]
    assert merge.backlogged(3) == set()
    merge.add(records_at(B, 4, 6, first=1))
    assert times(merge.ready()) == [4, 5]
    merge.finish([A])
    assert times(merge.ready()) == [6]
    assert merge.ready() == []


def test_a_partition_keeps_its_order_if_its_times_are_unordered() -> None:
    merged = merge_by_time([*records_at(A, 5, 1, 9), *records_at(B, 2, 3, 8)])
    assert [(record.topic_partition[1], record.offset) for record in merged] == [
        (1, 0),
        (1, 1),
        (0, 0),
        (0, 1),
        (1, 2),
        (0, 2),
    ]


def test_every_record_is_returned_once_in_any_batching() -> None:
    rng = random.Random(7)
    partitions: list[TopicPartition] = [("trades", number) for number in range(5)]
    by_partition = {
        topic_partition: records_at(topic_partition, *sorted(rng.randrange(1_000) for _ in range(rng.randrange(200))))
        for topic_partition in partitions
    }
    merge: TimeMerge[ConsumedRecord[str]] = TimeMerge(partitions)
    merged = merge.ready()
    remaining = {topic_partition: list(records) for topic_partition, records in by_partition.items()}
    while remaining:
        topic_partition = rng.choice(list(remaining))
        count = rng.randrange(1, 40)
        merge.add(remaining[topic_partition][:count])
        del remaining[topic_partition][:count]
        if not remaining[topic_partition]:
            merge.finish([topic_partition])
            del remaining[topic_partition]
        merged += merge.ready()
    assert times(merged) == sorted(record.timestamp for records in by_partition.values() for record in records)
    assert sorted(merged) == sorted(record for records in by_partition.values() for record in records)


def test_no_records_merge_to_none() -> None:
    assert merge_by_time([]) == []
    assert TimeMerge([]).ready() == []
