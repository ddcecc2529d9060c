"""The audit of the bars: each hour's bars equal those of Gold's trades at the Gold snapshot that the bars name."""

from datetime import UTC, datetime
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.report import Finding
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.layers import bars
from k2.schemas.channels import TRADES
from k2.schemas.snapshots import GOLD_SNAPSHOT
from k2.schemas.tables import BARS_TABLE, GOLD_TABLE, Table
from k2.schemas.values import from_micros

_HOUR: Final = 3_600_000_000
_MAX_FINDINGS: Final = 100


def check_bars(spark: SparkSession, since: datetime | None) -> list[Finding]:
    """Return a finding for each hour since then (None: ever) whose bars differ from Gold's trades.

    Bars that are not built yet are no finding.
    """
    if not spark.catalog.tableExists(BARS_TABLE.identifier):
        return []
    history = SnapshotHistory(spark, BARS_TABLE).snapshots()
    newest = next((snapshot for snapshot in history if GOLD_SNAPSHOT in snapshot.summary), None)
    if newest is None:
        return []
    gold_snapshot = int(newest.summary[GOLD_SNAPSHOT])
    if all(snapshot.id != gold_snapshot for snapshot in SnapshotHistory(spark, GOLD_TABLE).snapshots()):
        return []  # expired: its files may be deleted
    trades, stored = _at(spark, GOLD_TABLE, gold_snapshot), _at(spark, BARS_TABLE, newest.id)
    if since is not None:
        first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        trades = trades.where((F.col("exchange_date") >= F.lit(first.date())) & (F.col("timestamp") >= F.lit(first)))
        stored = stored.where((F.col("exchange_date") >= F.lit(first.date())) & (F.col("start") >= F.lit(first)))
    recomputed = _digests(bars.bars_of_trades(trades)).withColumnRenamed("digest", "recomputed")
    both = recomputed.join(_digests(stored), ["exchange", "hour"], "full_outer")
    rows = both.where("NOT recomputed <=> digest").orderBy("exchange", "hour").limit(_MAX_FINDINGS).collect()
    return [
        Finding(
            row["exchange"],
            TRADES.name,
            "ohlcv_mismatch",
            _describe(row["hour"], row["digest"], row["recomputed"]),
        )
        for row in rows
    ]


def _describe(hour: int, stored: object, recomputed: object) -> str:
    text = f"{from_micros(hour * _HOUR):%Y-%m-%dT%H:00Z}"
    if stored is None:
        return f"there are no bars for the hour {text}, in which Gold has trades"
    return f"the bars of the hour {text} differ from Gold{'' if recomputed else ', which has no trades in it'}"


def _at(spark: SparkSession, table: Table, snapshot: int) -> DataFrame:
    return spark.read.option("versionAsOf", str(snapshot)).table(table.identifier)


def _digests(rows: DataFrame) -> DataFrame:
    """Return an order-independent hash of each hour's bars."""
    columns: list[Column] = [F.col(column.name) for column in BARS_TABLE.columns]
    hour = F.expr(f"unix_micros(start) div {_HOUR}").alias("hour")
    digest = F.sum(F.xxhash64(*columns).cast("decimal(38,0)")).alias("digest")
    return rows.groupBy("exchange", hour).agg(digest)
