"""Gaps: the newest state of each gap of one feed, and the exchange's answers that verdicts on gaps rest on."""

import threading
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.retry import retry_on_conflict
from k2.schemas import tables, topics
from k2.schemas.channels import TRADES

_TIMES: Final = frozenset({"detected_at", "resolved_at"})
_MISSING: Final = "missing"
_ANSWER: Final = "request string, status int, received_at timestamp, body string"
_ONCE: Final = ("evidence_id", "received_at")  # what tells an answer from all others
_MERGES = threading.Lock()  # copy-on-write merges of one process would only conflict


class GapsLayer:
    """Merges the gap events of one feed into the newest state of each gap, and stores all evidence. Idempotent."""

    def __init__(self, feed: str, exchange: str, label: str) -> None:
        self._feed = feed
        self._exchange = exchange
        self._label = label

    def begin(self, query_id: str) -> None:
        """Do nothing: merges are idempotent."""

    def commit(self, batch: IncrementalBatch) -> None:
        """Merge one micro-batch: evidence first, so that no gap cites what is not stored."""
        self._store_evidence(batch.rows.where(F.col("topic") == topics.evidence(self._exchange)))
        self._merge_gaps(batch.rows.where(F.col("topic") == topics.gaps(self._exchange)))

    def _store_evidence(self, records: DataFrame) -> None:
        """Add the answers that are not stored yet. Every feed of the exchange reads the same topic."""
        table = tables.EVIDENCE_TABLE
        answer = F.from_json(F.col("value").cast("string"), _ANSWER)
        answers = (
            records.select(F.col("key").cast("string").alias("evidence_id"), answer.alias("answer"))
            .select("evidence_id", F.lit(self._label).alias("exchange"), "answer.*")
            .where("evidence_id IS NOT NULL AND received_at IS NOT NULL AND body IS NOT NULL")
            .dropDuplicates(list(_ONCE))
        )
        if answers.isEmpty():
            return

        def merge() -> None:
            stored = records.sparkSession.table(table.identifier).select(*_ONCE)
            new = answers.join(stored, list(_ONCE), "left_anti")
            same = " AND ".join(f"{table.name}.{name} = answer.{name}" for name in _ONCE)
            columns = new.select(*(column.name for column in table.columns)).alias("answer")
            # The update never has rows, unless another feed stored the same meanwhile: then the merge must notice.
            into = columns.mergeInto(table.identifier, F.expr(same))
            into.whenMatched().updateAll().whenNotMatched().insertAll().merge()

        with _MERGES:
            retry_on_conflict(merge)

    def _merge_gaps(self, records: DataFrame) -> None:
        table = tables.GAPS_TABLE
        kinds = ", ".join(
            f"{c.name} {'array<array<bigint>>' if c.name == _MISSING else 'string'}" for c in table.columns
        )
        event = F.from_json(F.col("value").cast("string"), kinds)
        own = records.select(event.alias("event"), "offset").where(F.col("event.feed") == self._feed)
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
        if name == "channel":  # older events have none: there were only trades
            return F.coalesce("event.channel", F.lit(TRADES.name)).alias(name)
        if name == _MISSING:
            return F.transform(f"event.{name}", _id_range).alias(name)
        return F.col(f"event.{name}").cast("timestamp" if name in _TIMES else "string").alias(name)


def _id_range(ids: Column) -> Column:
    """Return the range of a pair of ids."""
    return F.struct(ids[0].cast("string").alias("first_id"), ids[1].cast("string").alias("last_id"))
