"""How far into Kafka a snapshot of Gold reaches, as the commits themselves say it: no clock and no guess.

A commit to Gold is one batch of one feed's query, and its summary tells the first offsets that the query had not
taken by then. What a snapshot holds of all topics is therefore in its own summary and in those of its ancestors.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

FRONTIER: Final = "k2.frontier"
QUERY: Final = "k2.query-id"
EXCHANGE: Final = "k2.exchange"
_REMEMBERED: Final = 8


@dataclass(frozen=True, slots=True)
class Frontier:
    """Of each topic that Gold has taken something from: the first offset of each partition that it does not hold."""

    offsets: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    exchanges: Mapping[str, str] = field(default_factory=dict)  # the label that a topic's trades carry
    queries: Mapping[str, str] = field(default_factory=dict)  # the query whose word on a topic this is

    def offset(self, topic: str, partition: int) -> int | None:
        """Where Gold ends in a partition; None if it has taken nothing from it."""
        return self.offsets.get(topic, {}).get(partition)

    def after(self, summary: Mapping[str, str]) -> "Frontier":
        """The frontier once a commit with this summary is made on top."""
        if FRONTIER not in summary:
            return self  # compaction and deletion move no frontier
        offsets, exchanges, queries = dict(self.offsets), dict(self.exchanges), dict(self.queries)
        query = summary.get(QUERY, "")
        for topic, told in json.loads(summary[FRONTIER]).items():
            # A query that was begun anew starts over; what an earlier one said of the topic holds no longer.
            merged = dict(offsets.get(topic, {})) if queries.get(topic) == query else {}
            for partition, offset in told.items():
                merged[int(partition)] = max(merged.get(int(partition), 0), offset)
            offsets[topic], exchanges[topic], queries[topic] = merged, summary.get(EXCHANGE, ""), query
        return Frontier(offsets, exchanges, queries)


class Frontiers:
    """The frontiers of one table's snapshots. The last few are remembered, so that a new commit costs one summary."""

    def __init__(self) -> None:
        self._known: dict[int, Frontier] = {}

    def at(self, table: "Table", snapshot: "Snapshot | None") -> Frontier:
        """The frontier of a snapshot; of None, which is Gold before its first commit, an empty one."""
        news: list[Snapshot] = []
        found = Frontier()
        for ancestor in _lineage(table, snapshot):
            if (known := self._known.get(ancestor.snapshot_id)) is not None:
                found = known
                break
            news.append(ancestor)
        for ancestor in reversed(news):
            summary = ancestor.summary
            found = found.after(summary.additional_properties) if summary else found
        if snapshot is not None and news:
            self._known = {**dict(list(self._known.items())[1 - _REMEMBERED :]), snapshot.snapshot_id: found}
        return found


def of(table: "Table", snapshot: "Snapshot | None") -> Frontier:
    """The frontier of one snapshot of Gold."""
    return Frontiers().at(table, snapshot)


def _lineage(table: "Table", snapshot: "Snapshot | None") -> "Iterator[Snapshot]":
    """A snapshot and its ancestors, newest first; where some were expired, it goes on with what is left."""
    every = {found.snapshot_id: found for found in table.snapshots()}
    while snapshot is not None:
        yield snapshot
        snapshot = every.get(snapshot.parent_snapshot_id or 0) or _newest_before(every, snapshot)


def _newest_before(every: "Mapping[int, Snapshot]", snapshot: "Snapshot") -> "Snapshot | None":
    older = [found for found in every.values() if _sequence(found) < _sequence(snapshot)]
    return max(older, key=_sequence, default=None)


def _sequence(snapshot: "Snapshot") -> int:
    return snapshot.sequence_number or 0
