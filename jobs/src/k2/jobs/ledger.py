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
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.batches import EXCHANGE, ROWS_IN, STARTED
from k2.jobs.checkpoints import Checkpoint
from k2.jobs.commits import OFFSETS, Snapshot, TableLog
from k2.jobs.streams import BRONZE, GOLD, SILVER, Stream
from k2.schemas import tables
from k2.schemas.feed import ExchangeFeed

Row = dict[str, Any]


class Ledger:
    """Copies the commits of these feeds."""

    def __init__(self, spark: SparkSession, feeds: Sequence[ExchangeFeed], streams: Sequence[Stream]) -> None:
        self._spark = spark
        self._exchanges = sorted({(feed.spec.exchange, feed.facts.label) for feed in feeds})
        self._bronze_streams = [stream for stream in streams if stream.layer == BRONZE]
        self._known: set[int] | None = None

    def record(self) -> int:
        """Copies every snapshot that is not in the ledger yet; returns how many."""
        if self._known is None:
            ids = self._spark.table(tables.BATCHES_TABLE.identifier).select("snapshot_id").collect()
            self._known = {row[0] for row in ids}
        rows = list(self._rows(self._known))
        if rows:
            schema = ", ".join(f"{column.name} {column.type}" for column in tables.BATCHES_TABLE.columns)
            frame = self._spark.createDataFrame(rows, schema)
            frame.coalesce(1).writeTo(tables.BATCHES_TABLE.identifier).append()
            self._known |= {row["snapshot_id"] for row in rows}
        return len(rows)

    def _rows(self, known: set[int]) -> Iterator[Row]:
        checkpoints = {
            stream.checkpoint.query_id(): stream.checkpoint
            for stream in self._bronze_streams
            if stream.checkpoint.place() is not None
        }
        letters = {
            (snapshot.query_id, snapshot.epoch): snapshot.rows
            for snapshot in TableLog(self._spark, tables.DEAD_LETTERS_TABLE).snapshots()
        }
        for exchange, label in self._exchanges:
            table = tables.bronze(exchange)
            for snapshot in self._new(table, known):
                ranges = self._kafka_ranges(table, snapshot, checkpoints.get(snapshot.query_id))
                yield _row(BRONZE, label, snapshot, ranges)
            for snapshot in self._new(tables.silver(exchange), known):
                count = letters.get((snapshot.query_id, snapshot.epoch), 0)
                yield _row(SILVER, label, snapshot, _told_ranges(snapshot), dead_letters=count)
        for snapshot in self._new(tables.GOLD_TABLE, known):
            yield _row(GOLD, snapshot.summary[EXCHANGE], snapshot, _told_ranges(snapshot))

    def _new(self, table: tables.Table, known: set[int]) -> Iterator[Snapshot]:
        """Commits of queries that are not in the ledger: they are recorded together, so the first known one ends it."""
        for snapshot in takewhile(lambda found: found.id not in known, TableLog(self._spark, table).snapshots()):
            if snapshot.epoch >= 0:
                yield snapshot

    def _kafka_ranges(self, table: tables.Table, snapshot: Snapshot, checkpoint: Checkpoint | None) -> list[Row]:
        """From the checkpoint while it still remembers the batch, else from the rows themselves."""
        epoch = snapshot.epoch
        if checkpoint is not None and checkpoint.remembers(epoch) and checkpoint.remembers(epoch - 1):
            return list(_between(checkpoint.end(epoch - 1), checkpoint.end(epoch)))
        reader = self._spark.read.format("iceberg").option("end-snapshot-id", str(snapshot.id))
        if snapshot.parent is not None:
            rows = reader.option("start-snapshot-id", str(snapshot.parent)).load(table.identifier)
        else:
            rows = self._spark.read.option("versionAsOf", str(snapshot.id)).table(table.identifier)
        found = rows.groupBy("topic", "partition").agg(F.min("offset").alias("first"), F.max("offset").alias("last"))
        return [row.asDict() for row in found.collect()]


def _between(start: Any, end: Any) -> Iterator[Row]:
    """Kafka offsets of a batch, both ends included, from where it begins and ends as Spark's checkpoint tells it."""
    for topic, partitions in end.items():
        for partition, after in partitions.items():
            first = start.get(topic, {}).get(partition, 0)
            if after > first:
                yield {"topic": topic, "partition": int(partition), "first": first, "last": after - 1}


def _told_ranges(snapshot: Snapshot) -> list[Row]:
    return [
        {"topic": topic, "partition": int(partition), "first": first, "last": last}
        for topic, partitions in json.loads(snapshot.summary.get(OFFSETS, "{}")).items()
        for partition, (first, last) in partitions.items()
    ]


def _row(layer: str, exchange: str, snapshot: Snapshot, ranges: list[Row], *, dead_letters: int = 0) -> Row:
    rows_in = int(snapshot.summary.get(ROWS_IN, snapshot.rows))
    started = snapshot.summary.get(STARTED)
    committed = datetime.fromtimestamp(snapshot.committed_at, UTC)
    return {
        "layer": layer,
        "exchange": exchange,
        "query_id": snapshot.query_id,
        "epoch": snapshot.epoch,
        "offset_ranges": ranges,
        "rows_in": rows_in,
        "rows_out": snapshot.rows,
        "dead_letters": dead_letters,
        "duplicates_dropped": rows_in - snapshot.rows if layer == GOLD else 0,
        "snapshot_id": snapshot.id,
        "started_at": datetime.fromtimestamp(int(started) / 1e6, UTC) if started else committed,
        "committed_at": committed,
    }
