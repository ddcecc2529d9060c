"""Gaps: the newest state of each gap, merged from the gap events of one feed."""

import threading
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.retry import retry_on_conflict
from k2.schemas import tables
from k2.schemas.channels import TRADES

_TIMES: Final = frozenset({"detected_at", "repaired_at"})
_MERGES = threading.Lock()  # copy-on-write merges of one process would only conflict


class GapsLayer:
    """Merges the gap events of one feed into the newest state of each gap. Idempotent."""

    def __init__(self, feed: str, label: str) -> None:
        self._feed = feed
        self._label = label

    def begin(self, query_id: str) -> None:
        """Do nothing: merges are idempotent."""

    def commit(self, batch: IncrementalBatch) -> None:
        """Merge one micro-batch."""
        table = tables.GAPS_TABLE
        event = F.from_json(F.col("value").cast("string"), ", ".join(f"{c.name} string" for c in table.columns))
        own = batch.rows.select(event.alias("event"), "offset").where(F.col("event.feed") == self._feed)
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
        return F.col(f"event.{name}").cast("timestamp" if name in _TIMES else "string").alias(name)
