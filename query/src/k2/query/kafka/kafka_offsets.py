"""Derive from the summaries of Gold's commits how far Gold has consumed each Kafka partition.

A commit to Gold is one batch of one feed's query, and its summary names the first offsets that the query had not
consumed by then. What a snapshot holds of all topics therefore follows from its own summary and its ancestors'.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from k2.schemas.snapshots import EXCHANGE, FRONTIER, QUERY
from k2.schemas.topics import in_kafka

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

_CACHE_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class Frontier:
    """The first offset of each partition that Gold does not hold, for each topic that it has consumed."""

    offsets: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    exchanges: Mapping[str, str] = field(default_factory=dict)  # the exchange label of each topic's records
    # The id of the query that consumed each topic, and the topic's name in tables.
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def offset(self, topic: str, partition: int) -> int | None:
        """Return the first offset that Gold does not hold; None if it has consumed nothing of the partition."""
        return self.offsets.get(topic, {}).get(partition)

    def advance(self, summary: Mapping[str, str]) -> Frontier:
        """Return the frontier after a commit with this summary."""
        if FRONTIER not in summary:
            return self  # compaction and deletion do not move the frontier
        offsets, exchanges, sources = dict(self.offsets), dict(self.exchanges), dict(self.sources)
        # Of a topic that was made again, the name that came last is the current one.
        newest = {in_kafka(name): (name, partitions) for name, partitions in json.loads(summary[FRONTIER]).items()}
        for topic, (name, partitions) in newest.items():
            # A restarted query (a new checkpoint) and a new topic start over; earlier offsets no longer count.
            source = summary.get(QUERY, ""), name
            merged = dict(offsets.get(topic, {})) if sources.get(topic) == source else {}
            for partition, offset in partitions.items():
                merged[int(partition)] = max(offset, merged.get(int(partition), offset))
            offsets[topic], exchanges[topic], sources[topic] = merged, summary.get(EXCHANGE, ""), source
        return Frontier(offsets, exchanges, sources)


class FrontierCache:
    """The frontiers of one table's snapshots. The last few are cached, so that a new commit costs one summary."""

    def __init__(self) -> None:
        self._cache: dict[int, Frontier] = {}

    def at(self, table: Table, snapshot: Snapshot | None) -> Frontier:
        """Return the frontier of a snapshot; an empty one for None, which is Gold before its first commit."""
        unread: list[Snapshot] = []
        frontier = Frontier()
        for ancestor in _lineage(table, snapshot):
            if (cached := self._cache.get(ancestor.snapshot_id)) is not None:
                frontier = cached
                break
            unread.append(ancestor)
        for ancestor in reversed(unread):
            summary = ancestor.summary
            frontier = frontier.advance(summary.additional_properties) if summary else frontier
        if snapshot is not None and unread:
            self._cache = {**dict(list(self._cache.items())[1 - _CACHE_SIZE :]), snapshot.snapshot_id: frontier}
        return frontier


def frontier_of(table: Table, snapshot: Snapshot | None) -> Frontier:
    """Return the frontier of one snapshot of Gold."""
    return FrontierCache().at(table, snapshot)


def _lineage(table: Table, snapshot: Snapshot | None) -> Iterator[Snapshot]:
    """Yield a snapshot and its ancestors, newest first; expired ancestors are skipped."""
    by_id: dict[int | None, Snapshot] = {each.snapshot_id: each for each in table.snapshots()}
    while snapshot is not None:
        yield snapshot
        snapshot = by_id.get(snapshot.parent_snapshot_id) or _newest_older(by_id.values(), snapshot)


def _newest_older(snapshots: Iterable[Snapshot], snapshot: Snapshot) -> Snapshot | None:
    older = [each for each in snapshots if _sequence(each) < _sequence(snapshot)]
    return max(older, key=_sequence, default=None)


def _sequence(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0
