"""What the newest audit says of a feed, from `audit_completeness`, for /metrics and /status."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.completeness import INCOMPLETE
from k2.jobs.commit.appender import TableLog
from k2.jobs.telemetry.metrics import LayerState
from k2.schemas import tables
from k2.schemas.feed.model import ExchangeFeed

# What is older is known and past mending: it would hide what is new. `k2 audit` goes on telling it.
RECENT: Final = timedelta(days=7)
_AGAIN: Final = timedelta(hours=1)  # hours age out without a new snapshot


class AuditWatch:
    """Notes, in Gold's state of each feed, how many hours lack trades and when that was found."""

    def __init__(self, spark: SparkSession, gold: Sequence[tuple[ExchangeFeed, LayerState]]) -> None:
        self._spark = spark
        self._gold = gold
        self._seen: int | None = None
        self._looked = datetime.min.replace(tzinfo=UTC)

    def look(self, now: datetime | None = None) -> None:
        """Counts anew if an audit has written since; otherwise asks only for the table's newest snapshot."""
        now = now or datetime.now(UTC)
        if not self._gold:
            return
        newest = next(TableLog(self._spark, tables.COMPLETENESS_TABLE).snapshots(), None)
        if newest is None or (newest.id == self._seen and now - self._looked < _AGAIN):
            return
        for feed, state in self._gold:
            self._count(feed, state, now - RECENT)
        self._seen, self._looked = newest.id, now

    def _count(self, feed: ExchangeFeed, state: LayerState, since: datetime) -> None:
        symbols = [pair.symbol for pair in feed.pairs]
        own = (F.col("exchange") == feed.facts.label) & F.col("symbol").isin(symbols)
        recent = F.col("hour") >= F.lit(since)
        rows = self._spark.table(tables.COMPLETENESS_TABLE.identifier).where(own & recent)
        (found,) = rows.agg(
            F.count_if(F.col("state") == INCOMPLETE).alias("hours"), F.unix_micros(F.max("checked_at")).alias("at")
        ).collect()
        if found["at"] is not None:
            state.incomplete_hours, state.audited_at = found["hours"], found["at"] / 1e6
