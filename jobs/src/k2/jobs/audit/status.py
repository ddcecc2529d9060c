"""The newest audit result of each feed and channel, from `audit_completeness`, for /metrics and /status."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.completeness.hours import INCOMPLETE
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.telemetry.metrics import LayerState
from k2.schemas import tables
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.snapshots import CHECKED

# Older hours can no longer be repaired and would hide new ones. `k2 audit` still reports them.
RECENT: Final = timedelta(days=7)
_MAX_AGE: Final = timedelta(hours=1)  # hours leave the window without a new snapshot


class AuditStatus:
    """Sets the number of incomplete hours and the time of the audit in the Gold state of each feed and channel."""

    def __init__(self, spark: SparkSession, gold: Sequence[tuple[ExchangeFeed, LayerState]]) -> None:
        self._spark = spark
        self._gold = gold
        self._snapshot_id: int | None = None
        self._refreshed_at = datetime.min.replace(tzinfo=UTC)

    def refresh(self, now: datetime | None = None) -> None:
        """Count the incomplete hours again if an audit has committed since the last call, or after an hour."""
        now = now or datetime.now(UTC)
        if not self._gold:
            return
        history = SnapshotHistory(self._spark, tables.COMPLETENESS_TABLE).snapshots()
        newest = next((snapshot for snapshot in history if CHECKED in snapshot.summary), None)
        if newest is None or (newest.id == self._snapshot_id and now - self._refreshed_at < _MAX_AGE):
            return
        for feed, state in self._gold:
            self._count(feed, state, now - RECENT, int(newest.summary[CHECKED]) / 1e6)
        self._snapshot_id, self._refreshed_at = newest.id, now

    def _count(self, feed: ExchangeFeed, state: LayerState, since: datetime, audited_at: float) -> None:
        own = (F.col("exchange") == feed.exchange_spec.label) & (F.col("channel") == state.channel)
        if feed.names:  # else it selects them, and is the only feed of its exchange
            own &= F.col("symbol").isin([name.symbol for name in feed.names])
        recent = F.col("hour") >= F.lit(since)
        rows = self._spark.table(tables.COMPLETENESS_TABLE.identifier).where(own & recent)
        # Of the verdicts on an hour the newest is in force.
        hours = rows.groupBy("symbol", "hour").agg(F.max_by("state", "checked_at").alias("state"))
        incomplete = F.count_if(F.col("state") == INCOMPLETE)
        (result,) = hours.agg(F.count("*").alias("hours"), incomplete.alias("incomplete")).collect()
        if result["hours"]:
            state.incomplete_hours, state.audited_at = result["incomplete"], audited_at
