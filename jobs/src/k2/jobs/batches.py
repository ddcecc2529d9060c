"""What happens to a micro-batch of Silver, Gold and the gap events: transformed and committed, once."""

import json
import threading
import time
from collections.abc import Callable
from typing import Final

from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs import gold, silver
from k2.jobs.commits import OFFSETS, Appender, Snapshot
from k2.jobs.metrics import LayerState
from k2.schemas import tables

ROWS_IN: Final = "k2.rows-in"
ROWS_BEFORE: Final = "k2.rows-before"  # rows that the query had added before this commit
STARTED: Final = "k2.started-at"
SCHEMAS: Final = "k2.schemas"
FRONTIER: Final = "k2.frontier"  # topic, partition: the first offset that Gold does not hold
EXCHANGE: Final = "k2.exchange"

Offsets = dict[str, dict[str, list[int]]]
_TIMES: Final = frozenset({"detected_at", "repaired_at"})
_MERGES = threading.Lock()  # copy-on-write merges into one table would only conflict


class SilverBatch:
    """Bronze rows of one feed to trades and dead letters."""

    def __init__(
        self, spark: SparkSession, exchange: str, label: str, schemas: Callable[[], dict[int, str]], state: LayerState
    ) -> None:
        self._spark = spark
        self._label = label
        self._exchange = exchange
        self._schemas = schemas
        self._state = state
        self._trades: Appender | None = None
        self._dead: Appender | None = None

    def begin(self, query_id: str) -> None:
        """A query with this id starts: find out what it has written already."""
        self._trades = Appender(self._spark, tables.silver(self._exchange), query_id)
        self._dead = Appender(self._spark, tables.DEAD_LETTERS_TABLE, query_id)

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commits one micro-batch: the trades, then the dead letters, each once."""
        assert self._trades is not None
        assert self._dead is not None
        started, known = time.time(), self._schemas()
        offsets, rows_in, _ = _offsets(batch)
        if not rows_in:
            return
        before = self._trades.committed(epoch)
        if before is not None:  # judge by the schemas that the trades of this batch were judged by
            known = {schema_id: known[schema_id] for schema_id in json.loads(before.summary[SCHEMAS])}
        rows = silver.judged(batch, known, self._label)
        properties = _properties(self._label, started, offsets, rows_in) | {SCHEMAS: json.dumps(sorted(known))}
        counts: list[Row] = []
        if before is None:
            seen = Observation()
            broken = F.col("error_category").isNotNull()
            observed = rows.observe(
                seen, F.count_if(broken).alias("dead"), F.max("ingestion_timestamp").cast("double").alias("newest")
            )
            self._trades.append(silver.trades(observed), epoch, properties)
            dead = seen.get["dead"]
            _note(self._state, epoch, rows_in, seen.get["newest"], started)
        else:
            dead = silver.dead_letters(rows, self._label).count()
        if dead and self._dead.committed(epoch) is None:
            letters = silver.dead_letters(rows, self._label)
            self._dead.append(letters, epoch, properties)
            counts = letters.groupBy("error_category").count().collect()
        for category, count in counts:
            self._state.dead_letters[category] = self._state.dead_letters.get(category, 0) + count


class GoldBatch:
    """Silver trades of one feed to Gold, each message id once."""

    def __init__(self, spark: SparkSession, label: str, state: LayerState) -> None:
        self._spark = spark
        self._label = label
        self._state = state
        self._gold: Appender | None = None
        self._frontier: dict[str, dict[str, int]] = {}
        self._rows = 0

    def begin(self, query_id: str) -> None:
        """A query with this id starts: find out what it has written already."""
        self._gold = Appender(self._spark, tables.GOLD_TABLE, query_id)
        if (before := self._gold.before) is not None:
            self._frontier = json.loads(before.summary[FRONTIER])
            self._rows = total(before)
        self._state.rows = self._rows

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Commits one micro-batch, once."""
        assert self._gold is not None
        if self._gold.committed(epoch) is not None:
            return
        started = time.time()
        offsets, rows_in, minutes = _offsets(batch, by_minute=True)
        if not rows_in:
            return
        near = gold.within(gold.spans(minutes)) & (F.col("exchange") == self._label)
        known = batch.sparkSession.table(tables.GOLD_TABLE.identifier).where(near).select("message_id")
        repeats = gold.repeated(batch, known).persist()
        try:
            kept = gold.once(batch, repeats) if repeats.count() else batch
            seen = Observation()
            observed = kept.observe(
                seen, F.count("*").alias("rows"), F.max("ingestion_timestamp").cast("double").alias("newest")
            )
            self._advance(offsets)
            properties = _properties(self._label, started, offsets, rows_in)
            properties |= {FRONTIER: json.dumps(self._frontier), ROWS_BEFORE: str(self._rows)}
            self._gold.append(gold.unified(observed), epoch, properties)
        finally:
            repeats.unpersist()
        self._rows += seen.get["rows"]
        self._state.duplicates += rows_in - seen.get["rows"]
        _note(self._state, epoch, seen.get["rows"], seen.get["newest"], started)

    def _advance(self, offsets: Offsets) -> None:
        for topic, partitions in offsets.items():
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
        with _MERGES:
            merge = events.mergeInto(table.identifier, F.expr(f"{table.name}.gap_id = event.gap_id"))
            merge.whenMatched().updateAll().whenNotMatched().insertAll().merge()

    def _column(self, name: str) -> Column:
        if name == "exchange":
            return F.lit(self._label).alias(name)
        return F.col(f"event.{name}").cast("timestamp" if name in _TIMES else "string").alias(name)


def total(snapshot: Snapshot) -> int:
    """Rows that the query of a commit had added up to it, it included."""
    return int(snapshot.summary.get(ROWS_BEFORE, 0)) + snapshot.rows


def _offsets(batch: DataFrame, *, by_minute: bool = False) -> tuple[Offsets, int, set[int]]:
    """First and last offset by topic and partition, how many rows, and (for Gold) which minutes they are of."""
    extra = [gold.minute().alias("minute")] if by_minute else []
    grouped = batch.select("topic", "partition", "offset", *extra).groupBy(
        "topic", "partition", *(["minute"] if by_minute else [])
    )
    rows = grouped.agg(F.min("offset").alias("first"), F.max("offset").alias("last"), F.count("*").alias("rows"))
    found: Offsets = {}
    count, minutes = 0, set[int]()
    for row in rows.collect():
        known = found.setdefault(row["topic"], {}).setdefault(str(row["partition"]), [row["first"], row["last"]])
        known[0], known[1] = min(known[0], row["first"]), max(known[1], row["last"])
        count += row["rows"]
        if by_minute:
            minutes.add(row["minute"])
    return found, count, minutes


def _properties(label: str, started: float, offsets: Offsets, rows_in: int) -> dict[str, str]:
    return {
        EXCHANGE: label,
        STARTED: str(int(started * 1e6)),
        OFFSETS: json.dumps(offsets, separators=(",", ":")),
        ROWS_IN: str(rows_in),
    }


def _note(state: LayerState, epoch: int, rows: int, newest: float | None, started: float) -> None:
    state.rows += rows
    state.epoch = epoch
    if newest is not None:
        state.newest = max(state.newest, int(newest * 1e6))
    state.batch(time.time() - started)
