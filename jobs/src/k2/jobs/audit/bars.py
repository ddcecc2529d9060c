"""The audit of the bars: those of each hour are what Gold's trades give, at the Gold snapshot that the bars name."""

from datetime import UTC, datetime
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.report import Finding
from k2.jobs.commit.appender import TableLog
from k2.jobs.layers import bars
from k2.schemas.bars import GOLD_SNAPSHOT
from k2.schemas.tables import BARS_TABLE, GOLD_TABLE, Table
from k2.schemas.values import moment

_HOUR: Final = 3_600_000_000
_MOST: Final = 100


def differing(spark: SparkSession, since: datetime | None) -> list[Finding]:
    """The hours since then, or ever, whose bars are not those of Gold. Bars that nobody has made yet are no finding."""
    if not spark.catalog.tableExists(BARS_TABLE.identifier):
        return []
    made = next((found for found in TableLog(spark, BARS_TABLE).snapshots() if GOLD_SNAPSHOT in found.summary), None)
    if made is None:
        return []
    made_of = int(made.summary[GOLD_SNAPSHOT])
    if all(found.id != made_of for found in TableLog(spark, GOLD_TABLE).snapshots()):
        return []  # too old to be compared: its files may be gone
    trades, stored = _at(spark, GOLD_TABLE, made_of), _at(spark, BARS_TABLE, made.id)
    if since is not None:
        first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        trades = trades.where((F.col("exchange_date") >= F.lit(first.date())) & (F.col("timestamp") >= F.lit(first)))
        stored = stored.where((F.col("exchange_date") >= F.lit(first.date())) & (F.col("start") >= F.lit(first)))
    anew = _digests(bars.of(trades)).withColumnRenamed("digest", "anew")
    both = anew.join(_digests(stored), ["exchange", "hour"], "full_outer")
    found = both.where("NOT anew <=> digest").orderBy("exchange", "hour").limit(_MOST).collect()
    return [Finding(row["exchange"], "ohlcv_mismatch", _told(row["hour"], row["digest"], row["anew"])) for row in found]


def _told(hour: int, stored: object, anew: object) -> str:
    text = f"{moment(hour * _HOUR):%Y-%m-%dT%H:00Z}"
    if stored is None:
        return f"the bars lack the hour {text}, in which Gold has trades"
    return f"the bars of the hour {text} are not those of Gold{'' if anew else ', which has no trade in it'}"


def _at(spark: SparkSession, table: Table, snapshot: int) -> DataFrame:
    return spark.read.option("versionAsOf", str(snapshot)).table(table.identifier)


def _digests(rows: DataFrame) -> DataFrame:
    """Each hour's bars as a number that knows no order."""
    columns: list[Column] = [F.col(column.name) for column in BARS_TABLE.columns]
    hour = F.expr(f"unix_micros(start) div {_HOUR}").alias("hour")
    digest = F.sum(F.xxhash64(*columns).cast("decimal(38,0)")).alias("digest")
    return rows.groupBy("exchange", hour).agg(digest)
