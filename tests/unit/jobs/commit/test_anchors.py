"""The offsets that commits name."""

import json

from k2.jobs.commit import anchors
from k2.jobs.commit.snapshots import Snapshot


def _commit(at: float, **partitions: list[int]) -> Snapshot:
    offsets = {"trades": {number.removeprefix("p"): ends for number, ends in partitions.items()}}
    return Snapshot(1, None, at, "append", {"k2.offsets": json.dumps(offsets)})


def test_the_extent_of_a_partition_covers_all_commits():
    commits = [_commit(3.0, p0=[10, 19]), _commit(2.0, p0=[5, 9], p1=[0, 0]), Snapshot(2, None, 1.0, "replace", {})]
    assert anchors.of_snapshots(commits, {}) == {("trades", 0): (5, 19), ("trades", 1): (0, 0)}
    assert anchors.of_snapshots([], {}) == {}


def test_commits_before_a_purge_say_nothing():
    commits = [_commit(3.0, p0=[0, 4]), _commit(2.0, p0=[5, 9])]
    assert anchors.of_snapshots(commits, {"trades": 2.0}) == {("trades", 0): (0, 4)}
    assert anchors.of_snapshots(commits, {"other": 9.0}) == {("trades", 0): (0, 9)}


def test_extents_are_merged_by_partition():
    first, second = {("a", 0): (5, 9), ("a", 1): (0, 1)}, {("a", 0): (3, 6), ("b", 0): (7, 7)}
    assert anchors.merged(first, second) == {("a", 0): (3, 9), ("a", 1): (0, 1), ("b", 0): (7, 7)}
    assert anchors.merged() == {}
