"""The Kafka offsets of a batch, from the positions of checkpoints and the summaries of snapshots."""

import json
from types import SimpleNamespace
from typing import Any

from k2.jobs.commit import lineage
from k2.jobs.commit.lineage import NO_SNAPSHOT, BatchContents
from k2.jobs.commit.snapshots import Snapshot


def snapshot(number: int, parent: int | None) -> Snapshot:
    return Snapshot(number, parent, 0.0, "append", {})


def checkpoint(initial: Any, *ends: Any) -> Any:
    return SimpleNamespace(initial=lambda: initial, end=lambda epoch: ends[epoch])


def covered(history: list[Snapshot], start: int, end: int) -> list[int | None]:
    return [each and each.id for each in lineage._covered(history, start, end)]


def test_a_partition_without_new_records_has_no_range():
    assert lineage.offset_ranges({"a": {"0": 5, "1": 5}}, {"a": {"0": 5, "1": 6}}) == {"a": {"1": [5, 5]}}
    assert lineage.offset_ranges({"a": {"0": 5}}, {"a": {"0": 5}}) == {}
    assert lineage.offset_ranges({}, {"a": {"0": 0}}) == {}


def test_a_range_has_the_first_and_the_last_offset():
    start, end = {"a": {"0": 5}}, {"a": {"0": 9, "1": 2}, "b": {"0": 1}}
    assert lineage.offset_ranges(start, end) == {"a": {"0": [5, 8], "1": [0, 1]}, "b": {"0": [0, 0]}}


def test_a_position_behind_the_previous_one_has_no_range():
    assert lineage.offset_ranges({"a": {"0": 9}}, {"a": {"0": 5}}) == {}


def test_a_batch_from_kafka_begins_where_the_one_before_ended():
    positions = checkpoint({"a": {"0": 3}}, {"a": {"0": 5}}, {"a": {"0": 9, "1": 2}}, {"a": {"0": 9, "1": 2}})
    topic = lineage.KafkaTopic(positions)
    assert topic.contents(None, 0) == BatchContents({"a": {"0": [3, 4]}}, 2)
    assert topic.contents(None, 1) == BatchContents({"a": {"0": [5, 8], "1": [0, 1]}}, 6)
    assert topic.contents(None, 2) == BatchContents({}, 0)


def test_merged_ranges_reach_from_the_smallest_to_the_largest_offset():
    ranges = {"a": {"0": [5, 6]}}
    lineage.merge_ranges(ranges, {"a": {"0": [7, 9], "1": [0, 0]}, "b": {"0": [1, 2]}})
    assert ranges == {"a": {"0": [5, 9], "1": [0, 0]}, "b": {"0": [1, 2]}}
    lineage.merge_ranges(ranges, {"a": {"0": [1, 2]}})
    assert json.dumps(ranges["a"]) == '{"0": [1, 9], "1": [0, 0]}'


def test_the_snapshots_of_a_batch_are_those_after_its_start_up_to_its_end():
    history = [snapshot(4, 3), snapshot(3, 2), snapshot(2, 1), snapshot(1, None)]
    assert covered(history, 1, 3) == [3, 2]
    assert covered(history, 3, 4) == [4]
    assert covered(history, 3, 3) == []
    assert covered(history, NO_SNAPSHOT, 2) == [2, 1]


def test_an_expired_snapshot_is_none():
    assert covered([snapshot(4, 3), snapshot(2, 1), snapshot(1, None)], 1, 4) == [4, None]
    assert covered([snapshot(4, 3)], NO_SNAPSHOT, 4) == [4, None]
    assert covered([snapshot(4, 3)], 3, 4) == [4, None]
    assert covered([], 1, 2) == [None]
    assert covered([snapshot(1, None)], 7, 1) == [1, None]
