"""Micro-batch handlers of the layers: transform a batch and commit it once, with its contents in the summary."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit import lineage
from k2.jobs.commit.appender import Appender
from k2.jobs.commit.checkpoints import Checkpoint
from k2.jobs.commit.lineage import BatchContents, UpstreamTable
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.commit.snapshots import Snapshot
from k2.jobs.layers import bronze, gold, silver
from k2.jobs.spark.local_frames import local_frame
from k2.jobs.telemetry.metrics import LayerState
from k2.schemas import bars, tables
from k2.schemas.snapshots import EXCHANGE, FRONTIER, HOURS, OFFSETS, ROWS_BEFORE, ROWS_IN, SCHEMAS, STARTED

_SMALL_BATCH: Final = 200_000  # rows; up to here one task is faster than a shuffle, and one file better than several
_TIMES: Final = frozenset({"detected_at", "repaired_at"})
_MERGES = threading.Lock()  # copy-on-write merges of one process would only conflict


class Batch(Protocol):
    """Handles the micro-batches of a query."""

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commit one micro-batch, once."""


class BronzeBatch:
    """Writes the Kafka records of one feed to Bronze, undecoded."""

    def __init__(
        self, spark: SparkSession, exchange: str, label: str, checkpoint: Checkpoint, state: LayerState
    ) -> None:
        self._spark = spark
        self._table = tables.bronze(exchange)
        self._label = label
        self._checkpoint = checkpoint
        self._state = state
        self._bronze: Appender | None = None

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""
        self._bronze = Appender(self._spark, self._table, query_id)

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commit one micro-batch, once."""
        assert self._bronze is not None
        started, contents = time.time(), lineage.from_kafka(self._checkpoint, epoch)
        if not contents.rows or self._bronze.find_committed(epoch, contents.offsets) is not None:
            return
        counts = Observation()
        records = _coalesce_small(bronze.to_bronze(batch), contents.rows)
        observed = records.observe(counts, F.count("*").alias("rows"), _newest("kafka_timestamp"))
        self._bronze.append(observed, epoch, _properties(self._label, started, contents))
        _update_state(self._state, epoch, counts.get["rows"], counts.get["newest"], started)


class SilverBatch:
    """Writes Bronze rows of one feed to Silver: as trades, or as dead letters."""

    def __init__(
        self,
        spark: SparkSession,
        exchange: str,
        label: str,
        upstream: UpstreamTable,
        schemas: Callable[[], dict[int, str]],
        state: LayerState,
    ) -> None:
        self._spark = spark
        self._table = tables.silver(exchange)
        self._label = label
        self._upstream = upstream
        self._schemas = schemas
        self._state = state
        self._trades: Appender | None = None
        self._dead_letters: Appender | None = None

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""
        self._trades = Appender(self._spark, self._table, query_id)
        self._dead_letters = Appender(self._spark, tables.DEAD_LETTERS_TABLE, query_id)

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commit one micro-batch: the trades, then the dead letters, each once."""
        assert self._trades is not None
        assert self._dead_letters is not None
        started = time.time()
        contents = self._upstream.contents(batch.sparkSession, epoch)
        if not contents.rows:
            return
        committed, schemas = self._trades.find_committed(epoch, contents.offsets), self._schemas()
        if committed is not None:  # validate with the schemas that the trades of this batch were validated with
            schemas = {schema_id: schemas[schema_id] for schema_id in json.loads(committed.summary[SCHEMAS])}
        rows = silver.validated(self._upstream.rows(batch.sparkSession, epoch), schemas, self._label)
        properties = _properties(self._label, started, contents) | {SCHEMAS: json.dumps(sorted(schemas))}
        if committed is None:
            counts = Observation()
            dead = F.count_if(F.col("error_category").isNotNull()).alias("dead")
            observed = rows.observe(counts, dead, _newest("ingestion_timestamp"))
            self._trades.append(silver.trades(observed), epoch, properties)
            _update_state(self._state, epoch, contents.rows - counts.get["dead"], counts.get["newest"], started)
            if not counts.get["dead"]:
                return
        self._append_dead_letters(silver.dead_letters(rows, self._label), epoch, contents, properties)

    def _append_dead_letters(
        self, rows: DataFrame, epoch: int, contents: BatchContents, properties: dict[str, str]
    ) -> None:
        assert self._dead_letters is not None
        if self._dead_letters.find_committed(epoch, contents.offsets) is not None or rows.isEmpty():
            return
        self._dead_letters.append(rows, epoch, properties)
        for category, count in rows.groupBy("error_category").count().collect():
            self._state.dead_letters[category] = self._state.dead_letters.get(category, 0) + count


class GoldBatch:
    """Writes Silver trades of one feed to Gold, each message id once."""

    def __init__(self, spark: SparkSession, label: str, upstream: UpstreamTable, state: LayerState) -> None:
        self._spark = spark
        self._label = label
        self._upstream = upstream
        self._state = state
        self._gold: Appender | None = None
        self._frontier: dict[str, dict[str, int]] = {}
        self._rows = 0

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""
        self._gold = Appender(self._spark, tables.GOLD_TABLE, query_id)
        self._frontier, self._rows = {}, 0
        if (last := self._gold.last_commit) is not None:
            self._frontier = json.loads(last.summary[FRONTIER])
            self._rows = rows_written(last)
        self._state.rows = self._rows

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commit one micro-batch, once."""
        assert self._gold is not None
        started = time.time()
        contents = self._upstream.contents(batch.sparkSession, epoch)
        if not contents.rows or self._gold.find_committed(epoch, contents.offsets) is not None:
            return
        counts = Observation()
        trades = _coalesce_small(self._upstream.rows(batch.sparkSession, epoch), contents.rows)
        minutes = [row[0] for row in trades.select(gold.minute().alias("minute")).distinct().collect()]
        unique = self._deduplicate(trades, contents.rows, minutes)
        observed = unique.observe(counts, F.count("*").alias("rows"), _newest("ingestion_timestamp"))
        self._advance_frontier(contents)
        properties = _properties(self._label, started, contents)
        properties |= {FRONTIER: json.dumps(self._frontier), ROWS_BEFORE: str(self._rows)}
        properties |= {HOURS: bars.encode_hours(minute // 60 for minute in minutes)}
        self._gold.append(gold.to_gold(observed), epoch, properties)
        self._rows += counts.get["rows"]
        self._state.duplicates += contents.rows - counts.get["rows"]
        _update_state(self._state, epoch, counts.get["rows"], counts.get["newest"], started)

    def _deduplicate(self, batch: DataFrame, rows: int, minutes: Iterable[int]) -> DataFrame:
        nearby = gold.in_time_ranges(gold.time_ranges(minutes)) & (F.col("exchange") == self._label)
        in_gold = batch.sparkSession.table(tables.GOLD_TABLE.identifier).where(nearby).select("message_id")
        ids = _coalesce_small(gold.candidate_ids(batch, in_gold), rows)
        possible_duplicates = [row[0] for row in gold.possible_duplicates(ids).take(_SMALL_BATCH)]
        if not possible_duplicates:
            return batch
        if len(possible_duplicates) == _SMALL_BATCH:  # a full replay: too many to move through the driver
            return gold.drop_duplicates(batch, gold.duplicates(ids))
        hashes = local_frame(batch.sparkSession, ({"hash": number} for number in possible_duplicates), "hash bigint")
        return gold.drop_duplicates(batch, gold.duplicates(ids.join(F.broadcast(hashes), "hash", "left_semi")))

    def _advance_frontier(self, contents: BatchContents) -> None:
        for topic, partitions in contents.offsets.items():
            frontier = self._frontier.setdefault(topic, {})
            for partition, (_, last) in partitions.items():
                frontier[partition] = max(frontier.get(partition, 0), last + 1)


class GapsBatch:
    """Merges the gap events of one feed into the newest state of each gap. Idempotent."""

    def __init__(self, feed: str, label: str) -> None:
        self._feed = feed
        self._label = label

    def begin(self, query_id: str) -> None:
        """Do nothing: merges are idempotent."""

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Merge one micro-batch."""
        table = tables.GAPS_TABLE
        event = F.from_json(F.col("value").cast("string"), ", ".join(f"{c.name} string" for c in table.columns))
        own = batch.select(event.alias("event"), "offset").where(F.col("event.feed") == self._feed)
        newest = own.groupBy("event.gap_id").agg(F.max_by("event", "offset").alias("event"))
        if newest.isEmpty():
            return
        events = newest.select(*(self._column(column.name) for column in table.columns)).alias("event")

        def merge() -> None:
            into = events.mergeInto(table.identifier, F.expr(f"{table.name}.gap_id = event.gap_id"))
            into.whenMatched().updateAll().whenNotMatched().insertAll().merge()

        with _MERGES:
            retry_on_conflict(merge)

    def _column(self, name: str) -> Column:
        if name == "exchange":
            return F.lit(self._label).alias(name)
        return F.col(f"event.{name}").cast("timestamp" if name in _TIMES else "string").alias(name)


def rows_written(snapshot: Snapshot) -> int:
    """Return the number of rows that a commit's query had written up to and including that commit."""
    return int(snapshot.summary.get(ROWS_BEFORE, 0)) + snapshot.rows


def _coalesce_small(rows: DataFrame, count: int) -> DataFrame:
    return rows.coalesce(1) if count <= _SMALL_BATCH else rows


def _newest(column: str) -> Column:
    return F.max(column).cast("double").alias("newest")


def _properties(label: str, started: float, contents: BatchContents) -> dict[str, str]:
    return {
        EXCHANGE: label,
        STARTED: str(int(started * 1e6)),
        OFFSETS: json.dumps(contents.offsets, separators=(",", ":")),
        ROWS_IN: str(contents.rows),
    }


def _update_state(state: LayerState, epoch: int, rows: int, newest: float | None, started: float) -> None:
    state.rows += rows
    state.epoch = epoch
    if newest is not None:
        state.newest = max(state.newest, int(newest * 1e6))
    state.record_batch(time.time() - started)
