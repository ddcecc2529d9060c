"""The table `audit_batches`: what the snapshots say of themselves, kept longer than the snapshots are.

A summary is the truth, since it is committed with the rows; this only copies it. A snapshot is copied once, so the
ledger can be brought up to date at any time, by anybody, after any crash.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from pyspark.sql import SparkSession

from k2.jobs.batches import EXCHANGE, ROWS_IN, STARTED
from k2.jobs.commits import OFFSETS, Snapshot, TableLog
from k2.jobs.frames import frame
from k2.jobs.streams import BRONZE, GOLD, SILVER
from k2.schemas import tables
from k2.schemas.feed import ExchangeFeed
from k2.schemas.values import moment

Row = dict[str, Any]


class Ledger:
    """Copies the commits of these feeds."""

    def __init__(self, spark: SparkSession, feeds: Sequence[ExchangeFeed]) -> None:
        self._spark = spark
        self._exchanges = sorted({(feed.spec.exchange, feed.facts.label) for feed in feeds})
        self._known: set[int] | None = None

    def record(self) -> int:
        """Copies every snapshot that is not in the ledger yet; returns how many."""
        if self._known is None:
            ids = self._spark.table(tables.BATCHES_TABLE.identifier).select("snapshot_id").collect()
            self._known = {row[0] for row in ids}
        rows = list(self._rows(self._known))
        if rows:
            schema = ", ".join(f"`{column.name}` {column.type}" for column in tables.BATCHES_TABLE.columns)
            frame(self._spark, rows, schema).writeTo(tables.BATCHES_TABLE.identifier).append()
            self._known |= {row["snapshot_id"] for row in rows}
        return len(rows)

    def _rows(self, known: set[int]) -> Iterator[Row]:
        letters = {
            (snapshot.query_id, snapshot.epoch): snapshot.rows
            for snapshot in TableLog(self._spark, tables.DEAD_LETTERS_TABLE).snapshots()
        }
        for exchange, label in self._exchanges:
            for snapshot in self._new(tables.bronze(exchange), known):
                yield _row(BRONZE, label, snapshot)
            for snapshot in self._new(tables.silver(exchange), known):
                count = letters.get((snapshot.query_id, snapshot.epoch), 0)
                yield _row(SILVER, label, snapshot, dead_letters=count)
        for snapshot in self._new(tables.GOLD_TABLE, known):
            yield _row(GOLD, snapshot.summary[EXCHANGE], snapshot)

    def _new(self, table: tables.Table, known: set[int]) -> Iterator[Snapshot]:
        """Commits of queries that are not in the ledger: they are recorded together, so the first known one ends it."""
        for snapshot in takewhile(lambda found: found.id not in known, TableLog(self._spark, table).snapshots()):
            if snapshot.epoch >= 0:
                yield snapshot


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
