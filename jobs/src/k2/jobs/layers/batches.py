"""What happens to a micro-batch of each layer: transformed and committed, once, with what it holds in its summary."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit import lineage
from k2.jobs.commit.appender import Appender
from k2.jobs.commit.snapshots import OFFSETS, Snapshot
from k2.jobs.commit.checkpoints import Checkpoint
from k2.jobs.commit.lineage import BatchContents, UpstreamTable
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.layers import bronze, gold, silver
from k2.jobs.spark.local_frames import frame
from k2.jobs.telemetry.metrics import LayerState
from k2.schemas import bars, tables

ROWS_IN: Final = "k2.rows-in"
ROWS_BEFORE: Final = "k2.rows-before"  # rows that the query had added before this commit
STARTED: Final = "k2.started-at"  # UTC microseconds
SCHEMAS: Final = "k2.schemas"
FRONTIER: Final = "k2.frontier"  # topic, partition: the first offset that Gold does not hold
EXCHANGE: Final = bars.EXCHANGE

_FEW_ROWS: Final = 200_000  # up to here one task is faster than a shuffle, and one file better than several
_TIMES: Final = frozenset({"detected_at", "repaired_at"})
_MERGES = threading.Lock()  # copy-on-write merges of one process would only conflict


class Batch(Protocol):
    """What a query does with a micro-batch."""

    def begin(self, query_id: str) -> None:
        """A query with this id starts: find out what it has written already."""

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commits one micro-batch, once."""


class BronzeBatch:
    """Kafka records of one feed, as they are."""

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
        """A query with this id starts: find out what it has written already."""
        self._bronze = Appender(self._spark, self._table, query_id)

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commits one micro-batch, once."""
        assert self._bronze is not None
        started, contents = time.time(), lineage.from_kafka(self._checkpoint, epoch)
        if not contents.rows or self._bronze.committed(epoch, contents.offsets) is not None:
            return
        seen = Observation()
        records = _few(bronze.stored(batch), contents.rows)
        observed = records.observe(seen, F.count("*").alias("rows"), _newest("kafka_timestamp"))
        self._bronze.append(observed, epoch, _properties(self._label, started, contents))
        _note(self._state, epoch, seen.get["rows"], seen.get["newest"], started)


class SilverBatch:
    """Bronze rows of one feed to trades and dead letters."""

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
        self._dead: Appender | None = None

    def begin(self, query_id: str) -> None:
        """A query with this id starts: find out what it has written already."""
        self._trades = Appender(self._spark, self._table, query_id)
        self._dead = Appender(self._spark, tables.DEAD_LETTERS_TABLE, query_id)

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commits one micro-batch: the trades, then the dead letters, each once."""
        assert self._trades is not None
        assert self._dead is not None
        started = time.time()
        contents = self._upstream.contents(batch.sparkSession, epoch)
        if not contents.rows:
            return
        before, known = self._trades.committed(epoch, contents.offsets), self._schemas()
        if before is not None:  # judge by the schemas that the trades of this batch were judged by
            known = {schema_id: known[schema_id] for schema_id in json.loads(before.summary[SCHEMAS])}
        rows = silver.validated(self._upstream.rows(batch.sparkSession, epoch), known, self._label)
        properties = _properties(self._label, started, contents) | {SCHEMAS: json.dumps(sorted(known))}
        if before is None:
            seen = Observation()
            dead = F.count_if(F.col("error_category").isNotNull()).alias("dead")
            observed = rows.observe(seen, dead, _newest("ingestion_timestamp"))
            self._trades.append(silver.trades(observed), epoch, properties)
            _note(self._state, epoch, contents.rows - seen.get["dead"], seen.get["newest"], started)
            if not seen.get["dead"]:
                return
        self._bury(silver.dead_letters(rows, self._label), epoch, contents, properties)

    def _bury(self, letters: DataFrame, epoch: int, contents: BatchContents, properties: dict[str, str]) -> None:
        assert self._dead is not None
        if self._dead.committed(epoch, contents.offsets) is not None or letters.isEmpty():
            return
        self._dead.append(letters, epoch, properties)
        for category, count in letters.groupBy("error_category").count().collect():
            self._state.dead_letters[category] = self._state.dead_letters.get(category, 0) + count


class GoldBatch:
    """Silver trades of one feed to Gold, each message id once."""

    def __init__(self, spark: SparkSession, label: str, upstream: UpstreamTable, state: LayerState) -> None:
        self._spark = spark
        self._label = label
        self._upstream = upstream
        self._state = state
        self._gold: Appender | None = None
        self._frontier: dict[str, dict[str, int]] = {}
        self._rows = 0

    def begin(self, query_id: str) -> None:
        """A query with this id starts: find out what it has written already."""
        self._gold = Appender(self._spark, tables.GOLD_TABLE, query_id)
        self._frontier, self._rows = {}, 0
        if (before := self._gold.before) is not None:
            self._frontier = json.loads(before.summary[FRONTIER])
            self._rows = total(before)
        self._state.rows = self._rows

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commits one micro-batch, once."""
        assert self._gold is not None
        started = time.time()
        contents = self._upstream.contents(batch.sparkSession, epoch)
        if not contents.rows or self._gold.committed(epoch, contents.offsets) is not None:
            return
        seen = Observation()
        trades = _few(self._upstream.rows(batch.sparkSession, epoch), contents.rows)
        minutes = [row[0] for row in trades.select(gold.minute().alias("minute")).distinct().collect()]
        kept = self._once(trades, contents.rows, minutes)
        observed = kept.observe(seen, F.count("*").alias("rows"), _newest("ingestion_timestamp"))
        self._advance(contents)
        properties = _properties(self._label, started, contents)
        properties |= {FRONTIER: json.dumps(self._frontier), ROWS_BEFORE: str(self._rows)}
        properties |= {bars.HOURS: bars.encode_hours(minute // 60 for minute in minutes)}
        self._gold.append(gold.unified(observed), epoch, properties)
        self._rows += seen.get["rows"]
        self._state.duplicates += contents.rows - seen.get["rows"]
        _note(self._state, epoch, seen.get["rows"], seen.get["newest"], started)

    def _once(self, batch: DataFrame, rows: int, minutes: Iterable[int]) -> DataFrame:
        near = gold.within(gold.spans(minutes)) & (F.col("exchange") == self._label)
        known = batch.sparkSession.table(tables.GOLD_TABLE.identifier).where(near).select("message_id")
        ids = _few(gold.arrivals(batch, known), rows)
        suspects = [row[0] for row in gold.suspects(ids).take(_FEW_ROWS)]
        if not suspects:
            return batch
        if len(suspects) == _FEW_ROWS:  # a replay of everything: too many to carry to and fro
            return gold.once(batch, gold.repeated(ids))
        few = frame(batch.sparkSession, ({"hash": number} for number in suspects), "hash bigint")
        return gold.once(batch, gold.repeated(ids.join(F.broadcast(few), "hash", "left_semi")))

    def _advance(self, contents: BatchContents) -> None:
        for topic, partitions in contents.offsets.items():
            frontier = self._frontier.setdefault(topic, {})
            for partition, (_, last) in partitions.items():
                frontier[partition] = max(frontier.get(partition, 0), last + 1)


class GapsBatch:
    """Gap events of one feed to the newest state of each gap. A batch that is merged twice changes nothing."""

    def __init__(self, feed: str, label: str) -> None:
        self._feed = feed
        self._label = label

    def begin(self, query_id: str) -> None:
        """Nothing to find out: merging is idempotent by itself."""

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Merges one micro-batch."""
        table = tables.GAPS_TABLE
        event = F.from_json(F.col("value").cast("string"), ", ".join(f"{c.name} string" for c in table.columns))
        ours = batch.select(event.alias("event"), "offset").where(F.col("event.feed") == self._feed)
        newest = ours.groupBy("event.gap_id").agg(F.max_by("event", "offset").alias("event"))
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


def total(snapshot: Snapshot) -> int:
    """Rows that the query of a commit had added up to it, it included."""
    return int(snapshot.summary.get(ROWS_BEFORE, 0)) + snapshot.rows


def _few(rows: DataFrame, count: int) -> DataFrame:
    return rows.coalesce(1) if count <= _FEW_ROWS else rows


def _newest(column: str) -> Column:
    return F.max(column).cast("double").alias("newest")


def _properties(label: str, started: float, contents: BatchContents) -> dict[str, str]:
    return {
        EXCHANGE: label,
        STARTED: str(int(started * 1e6)),
        OFFSETS: json.dumps(contents.offsets, separators=(",", ":")),
        ROWS_IN: str(contents.rows),
    }


def _note(state: LayerState, epoch: int, rows: int, newest: float | None, started: float) -> None:
    state.rows += rows
    state.epoch = epoch
    if newest is not None:
        state.newest = max(state.newest, int(newest * 1e6))
    state.record_batch(time.time() - started)
