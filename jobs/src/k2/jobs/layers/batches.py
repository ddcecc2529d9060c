"""The layers that append: each transforms a batch and commits it once, with its contents in the summary."""

import json
import time
from collections.abc import Callable
from typing import Protocol

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.appender import Appender
from k2.jobs.commit.incremental_batch import SMALL_BATCH, IncrementalBatch
from k2.jobs.commit.snapshots import Snapshot
from k2.jobs.layers import bronze, conflicts, gold, silver
from k2.jobs.spark.local_frames import local_frame
from k2.jobs.telemetry.metrics import LayerState
from k2.schemas import bars, tables
from k2.schemas.channels import Channel
from k2.schemas.snapshots import FRONTIER, HOURS, ROWS_BEFORE, SCHEMAS


class Layer(Protocol):
    """Commits the micro-batches of a query."""

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""

    def commit(self, batch: IncrementalBatch) -> None:
        """Commit one micro-batch, once."""


class LayerSequence:
    """Commits each micro-batch by several layers, one after the other."""

    def __init__(self, *layers: Layer) -> None:
        self._layers = layers

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""
        for layer in self._layers:
            layer.begin(query_id)

    def commit(self, batch: IncrementalBatch) -> None:
        """Commit one micro-batch, by each layer once."""
        for layer in self._layers:
            layer.commit(batch)


class BronzeLayer:
    """Writes the Kafka records of one channel of a feed to Bronze, undecoded."""

    def __init__(self, spark: SparkSession, channel: Channel, exchange: str, state: LayerState) -> None:
        self._spark = spark
        self._table = channel.bronze(exchange)
        self._state = state
        self._bronze: Appender | None = None

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""
        self._bronze = Appender(self._spark, self._table, query_id)

    def commit(self, batch: IncrementalBatch) -> None:
        """Commit one micro-batch, once."""
        assert self._bronze is not None
        if not batch.contents.rows or self._bronze.find_committed(batch) is not None:
            return
        counts = Observation()
        rows = batch.coalesce(bronze.to_bronze(batch.rows))
        observed = rows.observe(counts, F.count("*").alias("rows"), _newest("kafka_timestamp"))
        self._bronze.append(observed, batch.epoch, batch.properties)
        _update_state(self._state, batch, counts.get["rows"], counts.get["newest"])


class SilverLayer:
    """Writes Bronze rows of one channel of a feed to Silver: as typed records, or as dead letters."""

    def __init__(
        self,
        spark: SparkSession,
        channel: Channel,
        exchange: str,
        label: str,
        schemas: Callable[[], dict[int, str]],
        state: LayerState,
    ) -> None:
        self._spark = spark
        self._channel = channel
        self._exchange = exchange
        self._table = channel.silver(exchange)
        self._label = label
        self._schemas = schemas
        self._state = state
        self._records: Appender | None = None
        self._dead_letters: Appender | None = None

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""
        self._records = Appender(self._spark, self._table, query_id)
        self._dead_letters = Appender(self._spark, tables.DEAD_LETTERS_TABLE, query_id)

    def commit(self, batch: IncrementalBatch) -> None:
        """Commit one micro-batch: the valid records, then the dead letters, each once."""
        assert self._records is not None
        assert self._dead_letters is not None
        if not batch.contents.rows:
            return
        committed, schemas = self._records.find_committed(batch), self._schemas()
        if committed is not None:  # validate with the schemas that the records of this batch were validated with
            schemas = {schema_id: schemas[schema_id] for schema_id in json.loads(committed.summary[SCHEMAS])}
        rejected = conflicts.find(batch, self._channel, self._exchange, self._label, schemas)
        rows = conflicts.marked(silver.validated(batch.rows, self._channel, schemas, self._label), rejected)
        properties = batch.properties | {SCHEMAS: json.dumps(sorted(schemas))}
        if committed is None:
            counts = Observation()
            dead = F.count_if(F.col("error_category").isNotNull()).alias("dead")
            observed = rows.observe(counts, dead, _newest("ingestion_timestamp"))
            self._records.append(silver.records(observed, self._channel), batch.epoch, properties)
            _update_state(self._state, batch, batch.contents.rows - counts.get["dead"], counts.get["newest"])
            if not counts.get["dead"]:
                return
        self._append_dead_letters(batch, silver.dead_letters(rows, self._channel, self._label), properties)

    def _append_dead_letters(self, batch: IncrementalBatch, rows: DataFrame, properties: dict[str, str]) -> None:
        assert self._dead_letters is not None
        if self._dead_letters.find_committed(batch) is not None or rows.isEmpty():
            return
        self._dead_letters.append(rows, batch.epoch, properties)
        for category, count in rows.groupBy("error_category").count().collect():
            self._state.dead_letters[category] = self._state.dead_letters.get(category, 0) + count


class GoldLayer:
    """Writes Silver records of one channel of a feed to Gold, each identity once."""

    def __init__(self, spark: SparkSession, channel: Channel, label: str, state: LayerState) -> None:
        self._spark = spark
        self._channel = channel
        self._label = label
        self._state = state
        self._gold: Appender | None = None
        self._frontier: dict[str, dict[str, int]] = {}
        self._rows = 0

    def begin(self, query_id: str) -> None:
        """Load what the query with this id has committed already. Called before its first batch."""
        self._gold = Appender(self._spark, self._channel.gold, query_id)
        self._frontier, self._rows = {}, 0
        if (last := self._gold.last_commit) is not None:
            self._frontier = json.loads(last.summary[FRONTIER])
            self._rows = rows_written(last)
        self._state.rows = self._rows

    def commit(self, batch: IncrementalBatch) -> None:
        """Commit one micro-batch, once."""
        assert self._gold is not None
        if not batch.contents.rows or self._gold.find_committed(batch) is not None:
            return
        counts = Observation()
        records = batch.coalesce_small(batch.rows)
        # Large batches are replays, which read much of Gold anyway.
        extent = gold.extent(records, self._channel, with_ids=batch.contents.rows <= SMALL_BATCH)
        unique = self._deduplicate(batch, records, extent)
        observed = unique.observe(counts, F.count("*").alias("rows"), _newest("ingestion_timestamp"))
        self._advance_frontier(batch)
        frontier = json.dumps(self._frontier, separators=(",", ":"))
        properties = batch.properties | {FRONTIER: frontier, ROWS_BEFORE: str(self._rows)}
        properties |= {HOURS: bars.encode_hours(minute // 60 for minute in extent.minutes)}
        self._gold.append(gold.to_gold(observed, self._channel), batch.epoch, properties)
        self._rows += counts.get["rows"]
        self._state.duplicates += batch.contents.rows - counts.get["rows"]
        _update_state(self._state, batch, counts.get["rows"], counts.get["newest"])

    def _deduplicate(self, batch: IncrementalBatch, records: DataFrame, extent: gold.Extent) -> DataFrame:
        identity, ranges = self._channel.identity, gold.time_ranges(extent.minutes)
        nearby = gold.in_time_ranges(ranges, self._channel) & (F.col("exchange") == self._label)
        if extent.id_ranges is not None:
            nearby &= gold.in_id_ranges(extent.id_ranges, self._channel)
        in_gold = batch.session.table(self._channel.gold.identifier).where(nearby).select(*identity)
        ids = batch.coalesce_small(gold.candidate_ids(records, in_gold, identity))
        possible_duplicates = [row[0] for row in gold.possible_duplicates(ids).take(SMALL_BATCH)]
        if not possible_duplicates:
            return records
        if len(possible_duplicates) == SMALL_BATCH:  # a full replay: too many to move through the driver
            return gold.drop_duplicates(records, gold.duplicates(ids, identity), identity)
        hashes = local_frame(batch.session, ({"hash": number} for number in possible_duplicates), "hash bigint")
        suspicious = ids.join(F.broadcast(hashes), "hash", "left_semi")
        return gold.drop_duplicates(records, gold.duplicates(suspicious, identity), identity)

    def _advance_frontier(self, batch: IncrementalBatch) -> None:
        for topic, partitions in batch.contents.offsets.items():
            frontier = self._frontier.setdefault(topic, {})
            for partition, (_, last) in partitions.items():
                frontier[partition] = max(frontier.get(partition, 0), last + 1)


def rows_written(snapshot: Snapshot) -> int:
    """Return the number of rows that a commit's query had written up to and including that commit."""
    return int(snapshot.summary.get(ROWS_BEFORE, 0)) + snapshot.rows


def _newest(column: str) -> Column:
    return F.max(column).cast("double").alias("newest")


def _update_state(state: LayerState, batch: IncrementalBatch, rows: int, newest: float | None) -> None:
    state.rows += rows
    state.epoch = batch.epoch
    if newest is not None:
        state.newest = max(state.newest, int(newest * 1e6))
    state.record_batch(time.time() - batch.started)
