"""The Kafka offsets of a batch, from the positions of checkpoints and the summaries of snapshots."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from k2.jobs.commit import lineage
from k2.jobs.commit.lineage import NO_SNAPSHOT, BatchContents
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.schemas.snapshots import OFFSETS, REDRIVEN, TOPIC_IDS
from k2.schemas.tables import bronze


def snapshot(number: int, parent: int | None, operation: str = "append", **summary: str) -> Snapshot:
    return Snapshot(number, parent, 0.0, operation, summary)


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
    identity = SimpleNamespace(verify=lambda: {"a": "id of a", "b": "id of b"}, name=lambda topic: topic)
    topic = lineage.KafkaTopic(positions, identity)
    assert topic.contents(None, 0) == BatchContents({"a": {"0": [3, 4]}}, 2, {"a": "id of a"})
    assert topic.contents(None, 1) == BatchContents({"a": {"0": [5, 8], "1": [0, 1]}}, 6, {"a": "id of a"})
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
    assert covered(history, 4, 4) == []
    assert covered(history, NO_SNAPSHOT, 2) == [2, 1]


def test_ids_of_snapshots_have_no_order():
    history = [snapshot(5, 9), snapshot(9, 2), snapshot(2, 7), snapshot(7, None)]
    assert covered(history, 7, 9) == [9, 2]
    assert covered(history, NO_SNAPSHOT, 2) == [2, 7]


def test_an_expired_snapshot_is_none():
    history = [snapshot(4, 3), snapshot(2, 1), snapshot(1, None)]
    assert covered(history, 1, 4) == [4, None]
    assert covered([snapshot(4, 3)], NO_SNAPSHOT, 4) == [4, None]
    assert covered([], 1, 2) == [None]
    assert covered([snapshot(1, None)], 7, 1) == [1, None]


@pytest.mark.parametrize("start", [NO_SNAPSHOT, 1, 2])
def test_a_batch_whose_last_snapshot_is_expired_is_not_empty(start):
    assert covered([snapshot(4, 3), snapshot(2, 1), snapshot(1, None)], start, 3) == [None]


def test_the_snapshot_before_a_batch_may_be_expired():
    assert covered([snapshot(4, 3)], 3, 4) == [4]


READ = BatchContents({"rows": {}}, 1)  # what a batch contains whose rows were read


@pytest.fixture
def contents(monkeypatch):
    # Iceberg's history and rows are read through the JVM: the choice between them needs only the snapshots.
    monkeypatch.setattr(SnapshotHistory, "__init__", lambda *_: None)
    monkeypatch.setattr(lineage.UpstreamTable, "rows", lambda *batch: batch[1:])
    monkeypatch.setattr(
        lineage, "from_rows", lambda rows, ids: replace(READ, topic_ids=ids) if rows == ("frame", 1) else None
    )

    def build(history: list[Snapshot], start: int, end: int) -> BatchContents:
        monkeypatch.setattr(SnapshotHistory, "snapshots", lambda _: iter(history))
        positions = checkpoint(None, {"snapshot_id": start}, {"snapshot_id": end})
        return lineage.UpstreamTable(None, bronze("binance", "trades"), "a", positions).contents("frame", 1)

    return build


def commit(number: int, rows: int, offsets: dict[str, dict[str, list[int]]]) -> Snapshot:
    """Return an append after the snapshot of the previous number."""
    return snapshot(number, number - 1 or None, **{"added-records": str(rows), OFFSETS: json.dumps(offsets)})


def test_a_batch_has_the_offsets_and_rows_of_all_its_commits(contents):
    history = [commit(3, 2, {"a": {"0": [7, 8]}}), commit(2, 4, {"a": {"0": [3, 6]}}), commit(1, 9, {"a": {}})]
    assert contents(history, 1, 3) == BatchContents({"a": {"0": [3, 8]}}, 6)
    assert contents(history, 2, 3) == BatchContents({"a": {"0": [7, 8]}}, 2)
    assert contents(history, NO_SNAPSHOT, 3) == BatchContents({"a": {"0": [3, 8]}}, 6)


def test_commits_of_other_topics_do_not_belong_to_the_batch(contents):
    history = [
        commit(3, 2, {"b": {"0": [7, 8]}}),
        commit(2, 4, {"a": {"0": [3, 6]}}),
        commit(1, 9, {"b": {"0": [1, 9]}}),
    ]
    assert contents(history, 1, 3) == BatchContents({"a": {"0": [3, 6]}}, 4)
    assert contents(history, 2, 3) == BatchContents({}, 0)


def test_a_batch_before_the_first_snapshot_is_empty(contents):
    assert contents([], NO_SNAPSHOT, NO_SNAPSHOT) == BatchContents({}, 0)


@pytest.mark.parametrize("operation", ["replace", "delete", "overwrite"])
def test_maintenance_between_two_commits_adds_no_rows(contents, operation):
    history = [commit(4, 2, {"a": {"0": [7, 8]}}), snapshot(3, 2, operation), commit(2, 4, {"a": {"0": [3, 6]}})]
    assert contents(history, 1, 4) == BatchContents({"a": {"0": [3, 8]}}, 6)


def test_compaction_before_the_first_batch_adds_no_rows(contents):
    history = [snapshot(2, 1, "replace"), commit(1, 4, {"a": {"0": [3, 6]}})]
    assert contents(history, NO_SNAPSHOT, 2) == BatchContents({"a": {"0": [3, 6]}}, 4)


@pytest.mark.parametrize("operation", ["delete", "overwrite"])
def test_the_rows_are_read_if_some_of_them_may_be_deleted(contents, operation):
    assert contents([snapshot(2, 1, operation), commit(1, 4, {"a": {"0": [3, 6]}})], NO_SNAPSHOT, 2) == READ


def test_the_rows_are_read_if_a_snapshot_is_expired(contents):
    assert contents([commit(4, 2, {"a": {"0": [7, 8]}}), commit(2, 4, {"a": {"0": [3, 6]}})], 1, 4) == READ
    assert contents([commit(2, 4, {"a": {"0": [3, 6]}}), commit(1, 4, {"a": {"0": [1, 2]}})], 1, 3) == READ


def test_the_rows_are_read_if_an_append_has_no_offsets(contents):
    assert contents([snapshot(2, 1), commit(1, 4, {"a": {"0": [3, 6]}})], 1, 2) == READ


def redriven(number: int, rows: dict[str, int]) -> Snapshot:
    offsets = {topic: {"0": [1, 2]} for topic in rows}
    added = {"added-records": str(sum(rows.values())), OFFSETS: json.dumps(offsets)}
    return snapshot(number, number - 1 or None, **added, **{REDRIVEN: json.dumps(rows)})


def test_dead_letters_that_turned_out_valid_are_rows_without_offsets(contents):
    history = [redriven(3, {"a": 2, "b": 7}), commit(2, 4, {"a": {"0": [3, 6]}}), commit(1, 1, {"a": {"0": [2, 2]}})]
    assert contents(history, 1, 3) == BatchContents({"a": {"0": [3, 6]}}, 6, redriven={"a": 2})
    assert contents(history, 2, 3) == BatchContents({}, 2, redriven={"a": 2})
    again = [redriven(4, {"a": 1, "a#y": 1}), *history]
    assert contents(again, 1, 4) == BatchContents({"a": {"0": [3, 6]}}, 8, redriven={"a": 3, "a#y": 1})
    assert contents([redriven(2, {"b": 7}), history[2]], 1, 2) == BatchContents({}, 0)


def with_id(commit: Snapshot, topic_id: str) -> Snapshot:
    return replace(commit, summary={**commit.summary, TOPIC_IDS: json.dumps({"a": topic_id, "b": "other"})})


def test_a_batch_has_the_id_of_its_topic_from_the_snapshots_that_it_covers(contents):
    history = [
        commit(3, 2, {"a": {"0": [7, 8]}}),
        commit(2, 4, {"a": {"0": [3, 6]}}),
        commit(1, 1, {"b": {"0": [0, 0]}}),
    ]
    history = [with_id(snapshot, f"id {snapshot.id}") for snapshot in history]
    assert contents(history, 1, 3).topic_ids == {"a": "id 3"}
    assert contents(history, 1, 2).topic_ids == {"a": "id 2"}
    assert contents(history, NO_SNAPSHOT, 1).topic_ids == {}


def test_a_batch_whose_snapshots_are_expired_has_the_newest_id_of_its_topic(contents):
    history = [with_id(commit(4, 2, {"a": {"0": [9, 9]}}), "id")]
    assert contents(history, 1, 4) == replace(READ, topic_ids={"a": "id"})


def test_a_batch_from_kafka_has_the_names_of_tables():
    positions = checkpoint({}, {"a": {"0": 2}, "b": {"0": 1}})
    identity = SimpleNamespace(verify=lambda: {"a": "x", "b": "y"}, name=lambda topic: {"a": "a#x"}.get(topic, topic))
    expected = BatchContents({"a#x": {"0": [0, 1]}, "b": {"0": [0, 0]}}, 3, {"a#x": "x", "b": "y"})
    assert lineage.KafkaTopic(positions, identity).contents(None, 0) == expected


def test_a_batch_has_records_of_a_topic_and_of_the_one_that_was_made_again(contents):
    history = [
        commit(3, 2, {"a#y": {"0": [0, 1]}}),
        commit(2, 4, {"a": {"0": [3, 6]}}),
        commit(1, 1, {"ab": {"0": [0, 0]}}),
    ]
    assert contents(history, NO_SNAPSHOT, 3) == BatchContents({"a#y": {"0": [0, 1]}, "a": {"0": [3, 6]}}, 6)
