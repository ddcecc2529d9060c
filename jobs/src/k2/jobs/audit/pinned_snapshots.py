"""A consistent view of the tables: one pinned snapshot each, and each layer's progress at that time.

Snapshots are pinned downstream first, Gold before Silver before Bronze. Upstream tables therefore always contain the
rows that downstream ones were made from, and any further rows are lag.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range
from k2.jobs.audit.offsets.bitmaps import Partition, TopicPartition
from k2.jobs.commit import anchors, lost_records
from k2.jobs.commit.anchors import Extents, LayerTable
from k2.jobs.commit.snapshots import Log, Snapshot, SnapshotHistory
from k2.jobs.stream import BRONZE, GOLD, SILVER
from k2.schemas import tables
from k2.schemas.channels import Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.snapshots import EXCHANGE, FRONTIER, JUDGED_REBUILD, OFFSETS, PRUNED, PURGED, REBUILT, ROWS_IN
from k2.schemas.tables import Table
from k2.schemas.values import to_micros

_SHARED: Final = (tables.GAPS_TABLE, tables.EVIDENCE_TABLE, tables.COMPLETENESS_TABLE)

Frontier = dict[TopicPartition, int]  # the first offset that is not due yet


class PinnedSnapshots:
    """The tables of some exchanges' channels at the snapshots that were current at construction.

    Tables whose names are `unreadable` are left out; that of instruments is there if `instruments`.
    """

    def __init__(
        self,
        spark: SparkSession,
        recorded: Iterable[tuple[str, Channel]],
        unreadable: Iterable[str] = (),
        *,
        instruments: bool = False,
    ) -> None:
        origins, left_out = list(recorded), set(unreadable)
        self._spark = spark
        order = [
            tables.BATCHES_TABLE,  # every commit that it names is in a snapshot that is pinned after it
            *(channel.gold for channel in dict.fromkeys(channel for _, channel in origins)),
            *(channel.silver(exchange) for exchange, channel in origins),
            tables.DEAD_LETTERS_TABLE,
            *(channel.bronze(exchange) for exchange, channel in origins),
            *_SHARED,
            *([tables.INSTRUMENTS_TABLE] if instruments else []),
            *(table for channel in dict.fromkeys(channel for _, channel in origins) for table in channel.derived),
        ]
        self._gold = [
            channel.gold
            for channel in dict.fromkeys(channel for _, channel in origins)
            if channel.gold.name not in left_out
        ]
        self._logs = {table.name: SnapshotHistory(spark, table).log() for table in order if table.name not in left_out}

        self._rows: dict[str, DataFrame] = {}
        self._read_properties: dict[str, dict[str, str]] = {}
        self._ledgers: dict[tuple[str, str], dict[str, Extents]] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the snapshots of the Gold tables from expiring: with short triggers, that takes minutes."""
        with ExitStack() as stack:
            for table in self._gold:
                if (snapshot := self.snapshot_id(table)) is not None:
                    stack.enter_context(SnapshotHistory(self._spark, table).held(snapshot, "audit"))
            yield

    def log(self, table: Table) -> Log:
        """Return the log of a table as it was when its snapshot was pinned."""
        return self._logs[table.name]

    def rows(self, table: Table) -> DataFrame:
        """Return a table's rows at its pinned snapshot."""
        if table.name not in self._rows:
            self._rows[table.name] = self._at_snapshot(table)
        return self._rows[table.name]

    def _at_snapshot(self, table: Table) -> DataFrame:
        newest = self.snapshot_id(table)
        if newest is None:
            return self._spark.table(table.identifier).where("false")
        return self._spark.read.option("versionAsOf", str(newest)).table(table.identifier)

    def snapshot_id(self, table: Table) -> int | None:
        """Return a table's pinned snapshot id; None if it has no snapshot yet."""
        history = self._logs[table.name].snapshots
        return history[0].id if history else None

    def snapshot_ids(self) -> dict[str, int | None]:
        """Return the pinned snapshot ids, by table; None for a table without one."""
        return {name: log.snapshots[0].id if log.snapshots else None for name, log in self._logs.items()}

    def pruned_before(self, table: Table) -> str | None:
        """Return the time (ISO 8601) before which retention may have deleted rows; None if it never did."""
        return self._properties(table).get(PRUNED)

    def pruned_micros(self, table: Table) -> int:
        """Return the time (UTC microseconds) before which retention may have deleted rows; 0 if it never did."""
        before = self.pruned_before(table)
        return 0 if before is None else to_micros(datetime.fromisoformat(before))

    def sequences(self) -> dict[str, int]:
        """Return the numbers of the pinned commits, by table; 0 for a table without one."""
        return {name: log.snapshots[0].sequence if log.snapshots else 0 for name, log in self._logs.items()}

    def _properties(self, table: Table) -> dict[str, str]:
        """Return the properties of a table, which say at least what its pinned snapshot needs: read once."""
        if table.name not in self._read_properties:
            self._read_properties[table.name] = SnapshotHistory(self._spark, table).properties()
        return self._read_properties[table.name]

    def bronze_extents(self, exchange: str, channel: Channel) -> Extents:
        """Return the first and last offset of each partition that Bronze holds by its commits and the ledger."""
        table = channel.bronze(exchange)
        committed = anchors.of_snapshots(self._logs[table.name].snapshots, self.purged(table))
        return anchors.merged(committed, self._ledger(exchange, channel)[BRONZE])

    def _ledger(self, exchange: str, channel: Channel) -> dict[str, Extents]:
        """Return the extents that the ledger names, by layer."""
        if (exchange, channel.name) not in self._ledgers:
            layers = {BRONZE: channel.bronze(exchange), SILVER: channel.silver(exchange), GOLD: channel.gold}
            label = EXCHANGES[exchange].label
            own = (F.col("exchange") == label) & (F.col("channel") == channel.name)
            named = {
                layer: LayerTable(self._logs[table.name].snapshots, self.purged(table))
                for layer, table in layers.items()
            }
            rows = self.rows(tables.BATCHES_TABLE).where(own)
            self._ledgers[exchange, channel.name] = anchors.of_ledger(rows, named)
        return self._ledgers[exchange, channel.name]

    def silver_frontier(
        self, exchange: str, channel: Channel, partitions: Mapping[TopicPartition, Partition]
    ) -> Frontier:
        """Return up to which offsets Bronze rows must be in Silver or the dead letters.

        Silver commits the valid records of a batch first, then its dead letters. A batch of which only one of the two
        is pinned is not due.
        """
        silver = self._logs[channel.silver(exchange).name].snapshots
        dead_letters = self._logs[tables.DEAD_LETTERS].snapshots
        frontier: Frontier = {}
        for topic_partition, partition in partitions.items():
            if (last := partition.last(("silver", "dead_letters"))) is not None:
                frontier[topic_partition] = last + 1
        purged = self.purged(channel.silver(exchange))
        for snapshot in silver:
            for topic_partition, (_, last) in _ranges(snapshot).items():
                if snapshot.committed_at <= purged.get(topic_partition[0], 0.0):
                    continue
                frontier[topic_partition] = max(frontier.get(topic_partition, 0), last + 1)
        _extend(frontier, self._ledger(exchange, channel)[SILVER])
        for topic_partition, first in _unsettled(silver, dead_letters).items():
            frontier[topic_partition] = min(frontier.get(topic_partition, first), first)
        return frontier

    def gold_frontier(self, exchange: str, channel: Channel) -> Frontier:
        """Return up to which offsets Silver rows must be in Gold, from the newest commit of each of its queries."""
        label = EXCHANGES[exchange].label
        frontier: Frontier = {}
        purged = self.purged(channel.gold)
        for snapshot in _newest(self._logs[channel.gold.name].snapshots).values():
            if snapshot.summary.get(EXCHANGE) != label:
                continue
            for topic, partitions in json.loads(snapshot.summary[FRONTIER]).items():
                if snapshot.committed_at <= purged.get(topic, 0.0):
                    continue
                for partition, upto in partitions.items():
                    topic_partition = topic, int(partition)
                    frontier[topic_partition] = max(frontier.get(topic_partition, 0), upto)
        _extend(frontier, self._ledger(exchange, channel)[GOLD])
        return frontier

    def lost(self, table: Table) -> dict[TopicPartition, list[Range]]:
        """Return the ranges of offsets that Kafka deleted before Bronze read them, as a recovery recorded them."""
        return lost_records.from_properties(self._properties(table))

    def rebuilt(self, table: Table, exchange: str, channel: Channel) -> dict[str, Any]:
        """Return what the newest rebuild of a channel's rows in a table recorded; empty without one."""
        text = self._properties(table).get(f"{REBUILT}.{EXCHANGES[exchange].label}.{channel.name}")
        return {} if text is None else dict(json.loads(text))

    def judged_rebuild(self, table: Table, exchange: str, channel: Channel) -> int:
        """Return the time (UTC microseconds) of the newest rebuild after which an audit has judged all it replaced."""
        key = judged_rebuild_key(table, exchange, channel)
        return int(self._properties(tables.COMPLETENESS_TABLE).get(key, 0))

    def is_rebuilt(self, table: Table) -> bool:
        """Whether rows of a table were ever rebuilt."""
        return any(key.startswith(f"{REBUILT}.") for key in self._properties(table))

    def purged(self, table: Table) -> dict[str, float]:
        """Return when the rows of purged topics were deleted, in seconds since 1970."""
        properties = self._properties(table)
        return {key.removeprefix(PURGED): float(value) for key, value in properties.items() if key.startswith(PURGED)}


def judged_rebuild_key(table: Table, exchange: str, channel: Channel) -> str:
    """Return the property of audit_completeness that records which rebuild of a channel's rows was judged."""
    return f"{JUDGED_REBUILD}{table.name}.{EXCHANGES[exchange].label}.{channel.name}"


def purged_key(topic: str) -> str:
    """Return the table property that records when a topic's rows were purged (seconds since 1970)."""
    return f"{PURGED}{topic}"


def _extend(frontier: Frontier, extents: Extents) -> None:
    """Move a frontier, in place, behind the last offsets of some extents."""
    for topic_partition, (_, last) in extents.items():
        frontier[topic_partition] = max(frontier.get(topic_partition, 0), last + 1)


def _newest(newest_first: Iterable[Snapshot]) -> dict[str, Snapshot]:
    """Return the newest commit of each query."""
    newest: dict[str, Snapshot] = {}
    for snapshot in newest_first:
        if snapshot.query_id:
            newest.setdefault(snapshot.query_id, snapshot)
    return newest


def _unsettled(silver: Iterable[Snapshot], dead_letters: Iterable[Snapshot]) -> Frontier:
    """Return the first offsets of batches of which only the valid records or only the dead letters are pinned."""
    record_commits, dead_letter_commits = _newest(silver), list(dead_letters)
    with_dead_letters = {(snapshot.query_id, snapshot.epoch) for snapshot in dead_letter_commits}
    incomplete = [
        snapshot
        for snapshot in record_commits.values()
        if snapshot.rows < int(snapshot.summary[ROWS_IN])
        and (snapshot.query_id, snapshot.epoch) not in with_dead_letters
    ]
    incomplete += [
        snapshot
        for snapshot in dead_letter_commits
        if snapshot.query_id in record_commits and snapshot.epoch > record_commits[snapshot.query_id].epoch
    ]
    first_offsets: Frontier = {}
    for snapshot in incomplete:
        for topic_partition, (first, _) in _ranges(snapshot).items():
            first_offsets[topic_partition] = min(first_offsets.get(topic_partition, first), first)
    return first_offsets


def _ranges(snapshot: Snapshot) -> dict[TopicPartition, tuple[int, int]]:
    return {
        (topic, int(partition)): (first, last)
        for topic, partitions in json.loads(snapshot.summary.get(OFFSETS, "{}")).items()
        for partition, (first, last) in partitions.items()
    }
