"""Records that Kafka's retention deleted before a query read them.

Spark fails on them, again at each start, instead of skipping them. `k2 recover` skips them, and leaves on record which
they are.
"""

import json
from collections.abc import Mapping

from k2.common.ranges import Range
from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.schemas.snapshots import LOST

Position = Mapping[str, Mapping[str, int]]  # by topic and partition: the next offset to read
Lost = dict[str, dict[str, Range]]  # by topic and partition: the first and last offset


class RecordsLost(BrokenCheckpoint):
    """Kafka does not have the records any more that the checkpoint continues with."""


def find(position: Position, first_offsets: Position) -> Lost:
    """Return the offsets from `position` on that Kafka has no more."""
    lost: Lost = {}
    for topic, partitions in position.items():
        for partition, following in partitions.items():
            first = first_offsets.get(topic, {}).get(partition, following)
            if first > following:
                lost.setdefault(topic, {})[partition] = following, first - 1
    return lost


def sentence(lost: Lost) -> str:
    """Return what is lost, and what to do."""
    ranges = "; ".join(
        f"offsets {first} to {last} of {topic}/{partition}"
        for topic, partitions in sorted(lost.items())
        for partition, (first, last) in sorted(partitions.items(), key=lambda item: int(item[0]))
    )
    return f"Kafka deleted {ranges} before they were read; continue behind them, on record as lost: k2 recover"


def starts(position: Position, first_offsets: Position) -> dict[str, dict[str, int]]:
    """Return where a query goes on that skips what is lost; partitions that are new begin at their first offset."""
    return {
        topic: {
            partition: max(first, position.get(topic, {}).get(partition, first))
            for partition, first in partitions.items()
        }
        for topic, partitions in first_offsets.items()
    }


def properties(lost: Lost, before: Mapping[str, str]) -> dict[str, str]:
    """Return the table properties that record what is lost, given those that the table has. Repeating adds nothing."""
    return {
        key: json.dumps(sorted({*map(tuple, json.loads(before.get(key, "[]"))), offsets}))
        for topic, partitions in lost.items()
        for partition, offsets in partitions.items()
        for key in [f"{LOST}{topic}/{partition}"]
    }


def from_properties(table_properties: Mapping[str, str]) -> dict[tuple[str, int], list[Range]]:
    """Return the ranges of offsets, by topic and partition, that the properties of a table record as lost."""
    lost: dict[tuple[str, int], list[Range]] = {}
    for key, value in table_properties.items():
        if key.startswith(LOST):
            topic, _, partition = key.removeprefix(LOST).rpartition("/")
            lost[topic, int(partition)] = sorted((first, last) for first, last in json.loads(value))
    return lost
