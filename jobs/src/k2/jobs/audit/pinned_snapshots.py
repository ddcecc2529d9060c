"""The lake at one moment: every table's snapshot, and how far each layer had come.

Snapshots are pinned downstream first, Gold before Silver before Bronze: so upstream always holds what downstream was
made from, and what it holds beyond that is lag.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from pyspark.sql import DataFrame, SparkSession

from k2.jobs.audit.offsets import Partition, Place
from k2.jobs.commit.appender import OFFSETS, Snapshot, TableLog
from k2.jobs.layers.batches import EXCHANGE, FRONTIER, ROWS_IN
from k2.schemas import tables
from k2.schemas.tables import Table

PRUNED: Final = "k2.pruned-before"  # a table property: rows older than this may be gone

_PURGED: Final = "k2.purged-at."  # a table property: what older snapshots say of this topic is void

Frontier = dict[Place, int]  # the first offset that is not due


class Pins:
    """Some exchanges' tables, as they are when this is made."""

    def __init__(self, spark: SparkSession, exchanges: Iterable[str]) -> None:
        names = list(exchanges)
        self._spark = spark
        order = [
            tables.GOLD_TABLE,
            *map(tables.silver, names),
            tables.DEAD_LETTERS_TABLE,
            *map(tables.bronze, names),
            tables.GAPS_TABLE,
        ]
        self._logs: dict[str, list[Snapshot]] = {}
        for table in order:
            newest_first = TableLog(spark, table).snapshots()
            bronze_like = table.name.startswith("bronze_") or table is tables.GAPS_TABLE
            # Only of Silver, the dead letters and Gold is more asked than where it stands.
            self._logs[table.name] = (
                [found for found, _ in zip(newest_first, range(1), strict=False)]
                if (bronze_like)
                else list(newest_first)
            )

    def rows(self, table: Table) -> DataFrame:
        """A table's rows at its pinned snapshot."""
        newest = self.snapshot_id(table)
        if newest is None:
            return self._spark.table(table.identifier).where("false")
        return self._spark.read.option("versionAsOf", str(newest)).table(table.identifier)

    def snapshot_id(self, table: Table) -> int | None:
        """The pinned snapshot; None for a table that holds nothing yet."""
        log = self._logs[table.name]
        return log[0].id if log else None

    def pruned_before(self, table: Table) -> str | None:
        """Before when rows may have been deleted because they were old; None if none were."""
        found = TableLog(self._spark, table).java_table().properties().get(PRUNED)
        return None if found is None else str(found)

    def silver_frontier(self, exchange: str, held: Mapping[Place, Partition]) -> Frontier:
        """Up to where Bronze rows must have become something.

        Silver commits a batch's trades first, then its dead letters: a batch that is between the two is not due, and
        one whose dead letters are pinned while its trades are not is not due either.
        """
        silver, letters = self._logs[tables.silver(exchange).name], self._logs[tables.DEAD_LETTERS]
        found: Frontier = {}
        for place, partition in held.items():
            if (last := partition.last(("silver", "dead"))) is not None:
                found[place] = last + 1
        purged = self._purged(tables.silver(exchange))
        for snapshot in silver:
            for place, (_, last) in _ranges(snapshot).items():
                if snapshot.committed_at <= purged.get(place[0], 0.0):
                    continue
                found[place] = max(found.get(place, 0), last + 1)
        for place, first in _unsettled(silver, letters).items():
            found[place] = min(found.get(place, first), first)
        return found

    def gold_frontier(self, label: str) -> Frontier:
        """Up to where Silver rows must be in Gold, as the newest commit of each query of an exchange tells it."""
        found: Frontier = {}
        purged = self._purged(tables.GOLD_TABLE)
        for snapshot in _newest(self._logs[tables.GOLD]).values():
            if snapshot.summary.get(EXCHANGE) != label:
                continue
            for topic, partitions in json.loads(snapshot.summary[FRONTIER]).items():
                if snapshot.committed_at <= purged.get(topic, 0.0):
                    continue
                for partition, upto in partitions.items():
                    place = topic, int(partition)
                    found[place] = max(found.get(place, 0), upto)
        return found

    def _purged(self, table: Table) -> dict[str, float]:
        """When which topics' rows were removed."""
        properties = TableLog(self._spark, table).java_table().properties()
        found = {str(key): str(properties[key]) for key in properties if str(key).startswith(_PURGED)}
        return {key.removeprefix(_PURGED): float(value) for key, value in found.items()}


def purged_key(topic: str) -> str:
    """The table property that says when a topic's rows were removed (seconds since 1970)."""
    return f"{_PURGED}{topic}"


def _newest(log: Iterable[Snapshot]) -> dict[str, Snapshot]:
    """Each query's newest commit."""
    found: dict[str, Snapshot] = {}
    for snapshot in log:
        if snapshot.query_id:
            found.setdefault(snapshot.query_id, snapshot)
    return found


def _unsettled(silver: Iterable[Snapshot], letters: Iterable[Snapshot]) -> Frontier:
    """Where batches begin of which only the trades or only the dead letters are pinned."""
    judged, buried = _newest(silver), list(letters)
    whole = {(snapshot.query_id, snapshot.epoch) for snapshot in buried}
    half = [
        snapshot
        for snapshot in judged.values()
        if snapshot.rows < int(snapshot.summary[ROWS_IN]) and (snapshot.query_id, snapshot.epoch) not in whole
    ]
    half += [
        snapshot
        for snapshot in buried
        if snapshot.query_id in judged and snapshot.epoch > judged[snapshot.query_id].epoch
    ]
    found: Frontier = {}
    for snapshot in half:
        for place, (first, _) in _ranges(snapshot).items():
            found[place] = min(found.get(place, first), first)
    return found


def _ranges(snapshot: Snapshot) -> dict[Place, tuple[int, int]]:
    return {
        (topic, int(partition)): (first, last)
        for topic, partitions in json.loads(snapshot.summary.get(OFFSETS, "{}")).items()
        for partition, (first, last) in partitions.items()
    }
