"""The table `audit_batches`: what the snapshots say of themselves, kept longer than the snapshots are.

A summary is the truth, since it is committed with the rows; this only copies it. Of a feed's drivers the one that runs
Gold writes the ledger, of its own feed's commits alone, so each commit is copied once however many feeds share a table.
A feed's commits are known by its topic, which is no other feed's. A query's batches are numbered and committed in
their order: the number that was copied last says which are left.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pyspark.sql import SparkSession

from k2.jobs.commit.appender import OFFSETS, Snapshot, TableLog
from k2.jobs.layers.batches import ROWS_IN, STARTED
from k2.jobs.spark.local_frames import frame
from k2.jobs.stream import BRONZE, GOLD, SILVER
from k2.schemas import tables
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.tables import Table
from k2.schemas.values import moment

Row = dict[str, Any]

_SETTLED: Final = 120.0  # seconds after which a Silver batch's dead letters are there if there are any


class Ledger:
    """Copies the commits of these feeds."""

    def __init__(self, spark: SparkSession, feeds: Sequence[ExchangeFeed]) -> None:
        self._spark = spark
        self._feeds = feeds
        self._copied: dict[tuple[str, str], int] | None = None  # layer, query: the newest batch in the ledger
        self._walked: dict[str, int] = {}  # table: the newest snapshot when it was last read, as far as all was copied

    def record(self, *, settled: bool = True) -> int:
        """Copies every commit that is not in the ledger yet; returns how many.

        Unless the streams are `settled`, Silver's newest commits wait: their dead letters may be on the way.
        """
        copied = dict(self._newest() if self._copied is None else self._copied)
        walked = dict(self._walked)
        rows = list(self._rows(copied, walked, time.time() - (0.0 if settled else _SETTLED)))
        if rows:
            schema = ", ".join(f"`{column.name}` {column.type}" for column in tables.BATCHES_TABLE.columns)
            frame(self._spark, rows, schema).writeTo(tables.BATCHES_TABLE.identifier).append()
        self._copied, self._walked = copied, walked
        return len(rows)

    def _newest(self) -> dict[tuple[str, str], int]:
        found = self._spark.table(tables.BATCHES_TABLE.identifier).groupBy("layer", "query_id").agg({"epoch": "max"})
        return {(row[0], row[1]): row[2] for row in found.collect()}

    def _rows(self, copied: dict[tuple[str, str], int], walked: dict[str, int], until: float) -> Iterator[Row]:
        labels = {feed.topic: feed.facts.label for feed in self._feeds}
        found: list[tuple[str, Snapshot]] = []
        for exchange in sorted({feed.spec.exchange for feed in self._feeds}):
            found += [(BRONZE, snapshot) for snapshot in self._new(tables.bronze(exchange), walked)]
            found += [(SILVER, snapshot) for snapshot in self._new(tables.silver(exchange), walked, until)]
        found += [(GOLD, snapshot) for snapshot in self._new(tables.GOLD_TABLE, walked)]
        own = [
            (layer, snapshot, labels[topic])
            for layer, snapshot in found
            if (topic := _topic(snapshot)) in labels and snapshot.epoch > copied.get((layer, snapshot.query_id), -1)
        ]
        letters = self._letters() if any(layer == SILVER for layer, _, _ in own) else {}
        for layer, snapshot, label in own:
            key = layer, snapshot.query_id
            copied[key] = max(copied.get(key, -1), snapshot.epoch)
            count = letters.get((snapshot.query_id, snapshot.epoch), 0) if layer == SILVER else 0
            yield _row(layer, label, snapshot, dead_letters=count)

    def _letters(self) -> dict[tuple[str, int], int]:
        log = TableLog(self._spark, tables.DEAD_LETTERS_TABLE).snapshots()
        return {(snapshot.query_id, snapshot.epoch): snapshot.rows for snapshot in log}

    def _new(self, table: Table, walked: dict[str, int], until: float | None = None) -> list[Snapshot]:
        """Commits of queries since the table was last read, of those that are not younger than `until`."""
        found: list[Snapshot] = []
        stop, newest = walked.get(table.name), None
        for snapshot in TableLog(self._spark, table).snapshots():
            if snapshot.id == stop:
                break
            if until is not None and snapshot.committed_at > until:
                continue
            newest = newest or snapshot.id
            if snapshot.epoch >= 0:
                found.append(snapshot)
        if newest is not None:
            walked[table.name] = newest
        return found


def _topic(snapshot: Snapshot) -> str:
    return next(iter(json.loads(snapshot.summary.get(OFFSETS, "{}"))), "")


def _ranges(snapshot: Snapshot) -> list[Row]:
    return [
        {"topic": topic, "partition": int(partition), "first": first, "last": last}
        for topic, partitions in json.loads(snapshot.summary.get(OFFSETS, "{}")).items()
        for partition, (first, last) in partitions.items()
    ]


def _row(layer: str, exchange: str, snapshot: Snapshot, *, dead_letters: int = 0) -> Row:
    rows_in, started = int(snapshot.summary[ROWS_IN]), int(snapshot.summary[STARTED])
    committed = datetime.fromtimestamp(snapshot.committed_at, UTC)
    return {
        "layer": layer,
        "exchange": exchange,
        "query_id": snapshot.query_id,
        "epoch": snapshot.epoch,
        "offset_ranges": _ranges(snapshot),
        "rows_in": rows_in,
        "rows_out": snapshot.rows,
        "dead_letters": dead_letters,
        "duplicates_dropped": rows_in - snapshot.rows if layer == GOLD else 0,
        "snapshot_id": snapshot.id,
        "started_at": moment(started),
        "committed_at": committed,
    }
