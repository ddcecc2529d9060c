"""The audit of the bars: each hour's bars equal those of Gold's trades at the Gold snapshot that the bars name."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit import digests
from k2.jobs.audit.report import Finding
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.jobs.layers import bars
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.channels import TRADES
from k2.schemas.digests import BAR
from k2.schemas.snapshots import GOLD_SNAPSHOT, PURGED
from k2.schemas.tables import BARS_TABLE, GOLD_TABLE, Table
from k2.schemas.values import from_micros

_HOUR: Final = 3_600_000_000
_BY: Final = ("exchange", "symbol", "hour")
_MAX_FINDINGS: Final = 100
_MAX_MINUTES: Final = 10


def check_bars(spark: SparkSession, since: datetime | None) -> list[Finding]:
    """Return a finding for each hour since then (None: ever) whose bars differ from Gold's trades, or that none can be.

    Bars that are not built yet are no finding. Maintenance keeps the Gold snapshot that the bars name.
    """
    if not spark.catalog.tableExists(BARS_TABLE.identifier):
        return []
    history = list(SnapshotHistory(spark, BARS_TABLE).snapshots())
    newest = _newest_of_gold(history)
    if newest is None:
        is_empty = not history or _at(spark, BARS_TABLE, history[0].id).isEmpty()
        return [] if is_empty else [_unverifiable("none of its commits names a snapshot of Gold")]
    gold_snapshot = int(newest.summary[GOLD_SNAPSHOT])
    if SnapshotHistory(spark, GOLD_TABLE).java_table().snapshot(gold_snapshot) is None:
        if _newest_of_gold(SnapshotHistory(spark, BARS_TABLE).snapshots()) != newest:
            return check_bars(spark, since)  # rebuilt meanwhile, so maintenance could expire the one before
        return [_unverifiable(f"Gold's snapshot {gold_snapshot}, which they equal, has expired")]
    # Commits after the newest that rebuilt bars change nothing, unless a feed was purged: then another one follows.
    current = newest if _purged_at(spark) > newest.committed_at else history[0]
    trades, stored = _at(spark, GOLD_TABLE, gold_snapshot), _at(spark, BARS_TABLE, current.id)
    if since is not None:
        first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        trades = trades.where((F.col("exchange_date") >= F.lit(first.date())) & (F.col("timestamp") >= F.lit(first)))
        stored = stored.where((F.col("exchange_date") >= F.lit(first.date())) & (F.col("open_time") >= F.lit(first)))
    recomputed = _digests(bars.bars_of_trades(trades)).withColumnRenamed("digest", "recomputed")
    both = recomputed.join(_digests(stored), list(_BY), "full_outer")
    rows = both.where("NOT recomputed <=> digest").orderBy("exchange", "hour", "symbol").limit(_MAX_FINDINGS).collect()
    if not rows:
        return []
    minutes = _minutes(bars.bars_of_trades(trades), stored, rows)
    return [_finding(row, minutes.get((row["exchange"], row["symbol"], row["hour"]), ())) for row in rows]


def _newest_of_gold(newest_first: Iterable[Snapshot]) -> Snapshot | None:
    """Return the newest commit that names the Gold snapshot that the bars equal."""
    return next((snapshot for snapshot in newest_first if GOLD_SNAPSHOT in snapshot.summary), None)


def _unverifiable(reason: str) -> Finding:
    text = (
        f"{BARS_TABLE.name}: no bar can be judged: {reason}; run the platform, which builds them again, and audit again"
    )
    return Finding("", TRADES.name, "bars_unverifiable", text, BARS_TABLE.name)


def _purged_at(spark: SparkSession) -> float:
    """Return when rows of a feed were last purged from the bars, in seconds since 1970; 0 if never."""
    properties = SnapshotHistory(spark, BARS_TABLE).java_table().properties()
    return max((float(properties[key]) for key in properties if str(key).startswith(PURGED)), default=0.0)


def _minutes(recomputed: DataFrame, stored: DataFrame, hours: Iterable[Row]) -> dict[tuple[str, str, int], list[str]]:
    """Return the minutes of some hours whose bars differ or are only on one side."""
    listed_hours = local_frame(
        stored.sparkSession, [{name: row[name] for name in _BY} for row in hours],
        "exchange string, symbol string, hour bigint",
    )  # fmt: skip
    sides = [
        rows.join(F.broadcast(listed_hours), [*_BY]).select(
            *_BY, F.unix_micros("open_time").alias("minute"), "row_hash"
        )
        for rows in (_hashed(recomputed), _hashed(stored))
    ]
    differing = sides[0].exceptAll(sides[1]).union(sides[1].exceptAll(sides[0]))
    minutes: dict[tuple[str, str, int], list[str]] = {}
    for row in differing.select(*_BY, "minute").distinct().orderBy("minute").collect():
        minutes.setdefault((row["exchange"], row["symbol"], row["hour"]), []).append(
            f"{from_micros(row['minute']):%H:%M}"
        )
    return minutes


def _finding(row: Row, minutes: Sequence[str]) -> Finding:
    hour = f"{from_micros(row['hour'] * _HOUR):%Y-%m-%dT%H:00Z}"
    if row["digest"] is None:
        text = f"there are no bars of {row['symbol']} for the hour {hour}, in which Gold has trades"
    else:
        unknown = "" if row["recomputed"] else ", which has no trades in it"
        text = f"the bars of {row['symbol']} for the hour {hour} differ from Gold{unknown}"
        text += f": {', '.join(minutes[:_MAX_MINUTES])}" + (" and more" if len(minutes) > _MAX_MINUTES else "")
    return Finding(row["exchange"], TRADES.name, "ohlcv_mismatch", text, BARS_TABLE.name, row["symbol"], hour)


def _at(spark: SparkSession, table: Table, snapshot: int) -> DataFrame:
    return spark.read.option("versionAsOf", str(snapshot)).table(table.identifier)


def _digests(rows: DataFrame) -> DataFrame:
    """Return the digest of each hour's bars, as an array of the sums that make it."""
    return _hashed(rows).groupBy(*_BY).agg(F.array(*digests.sums("row_hash", "digest")).alias("digest"))


def _hashed(rows: DataFrame) -> DataFrame:
    hour = F.expr(f"unix_micros(open_time) div {_HOUR}").alias("hour")
    row_hash = digests.row_hash(rows, BAR, BARS_TABLE.column_names).alias("row_hash")
    return rows.select("exchange", "symbol", hour, "open_time", row_hash)
