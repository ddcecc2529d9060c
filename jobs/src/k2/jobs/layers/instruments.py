"""Instruments: keeps `gold_instruments` at what the exchange's topic of instruments says."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common import logs
from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.layers.instrument_versions import decoded, intervals
from k2.schemas import topics
from k2.schemas.tables import INSTRUMENTS_TABLE

log = logs.get("instruments")

_COMMITS: Final = threading.Lock()  # commits of one process to the same rows would only conflict


class InstrumentsLayer:
    """Replaces the rows of one exchange by those that follow from them and new versions. Idempotent.

    Every feed of the exchange reads the same topic: whoever comes second finds nothing to change.
    """

    def __init__(self, exchange: str, label: str, schemas: Callable[[], Mapping[int, str]]) -> None:
        self._topic = topics.instruments(exchange)
        self._label = label
        self._schemas = schemas

    def begin(self, query_id: str) -> None:
        """Do nothing: commits are idempotent."""

    def commit(self, batch: IncrementalBatch) -> None:
        """Commit the versions of one micro-batch. Raises `RegistryUnavailable`."""
        records = batch.rows.where(F.col("topic") == self._topic)
        if records.isEmpty():
            return
        records = decoded(records, self._schemas()).persist()
        try:
            own = F.coalesce(F.col("exchange") == self._label, F.lit(False))
            self._report_unreadable(records.where(~own))
            with _COMMITS:
                retry_on_conflict(lambda: self._replace(records.where(own)))
        finally:
            records.unpersist()

    def _report_unreadable(self, records: DataFrame) -> None:
        """Log the records that are no instruments of the exchange. They stay in the topic."""
        count, first, last = records.agg(F.count("*"), F.min("offset"), F.max("offset")).collect()[0]
        if count:
            log.error("unreadable instruments", topic=self._topic, records=count, first_offset=first, last_offset=last)

    def _replace(self, versions: DataFrame) -> None:
        spark, table = versions.sparkSession, INSTRUMENTS_TABLE
        current = next(SnapshotHistory(spark, table).snapshots(), None)
        reader = spark.read if current is None else spark.read.option("versionAsOf", str(current.id))
        stored = reader.table(table.identifier).where(F.col("exchange") == self._label)
        columns = [name for name in table.column_names if name not in {"valid_to", "delisted_at"}]
        rows = intervals(stored.select(*columns).unionByName(versions.select(*columns))).persist()
        try:
            if rows.count() == stored.count() and rows.exceptAll(stored).isEmpty():
                return
            # Iceberg refuses the commit if another process has changed the exchange's rows since they were read.
            writer = rows.coalesce(1).writeTo(table.identifier).option("isolation-level", "serializable")
            if current is not None:
                writer = writer.option("validate-from-snapshot-id", str(current.id))
            writer.overwrite(F.col("exchange") == self._label)
        finally:
            rows.unpersist()
