"""What the verdicts say about the hours before those that an audit judges."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.completeness.hours import INCOMPLETE, HourCompleteness
from k2.schemas.values import from_micros

_RECENT: Final = timedelta(days=31)  # how far back the last id of a symbol is looked for


@dataclass(frozen=True, slots=True)
class Earlier:
    """The verdicts of one channel of an exchange: rows of audit_completeness."""

    verdicts: DataFrame

    def last_ids(self, start: datetime) -> DataFrame:
        """Return the highest id (`number`) of each `symbol` in the month before a time."""
        hours = self.verdicts.where((F.col("hour") < F.lit(start)) & (F.col("hour") >= F.lit(start - _RECENT)))
        numbered = hours.select("symbol", F.expr("try_cast(last_id AS bigint)").alias("number"))
        return numbered.where("number IS NOT NULL").groupBy("symbol").agg(F.max("number").alias("number"))

    def incomplete(self, start: datetime) -> list[HourCompleteness]:
        """Return the hours before a time whose verdict in force says that ids or records are missing."""
        before = self.verdicts.where(F.col("hour") < F.lit(start))
        lacks = F.col("state") == INCOMPLETE
        # Few hours ever lacked ids: only their verdicts are compared with each other.
        some = before.where(lacks).select("symbol", "hour").distinct()
        columns = [name for name in before.columns if name not in {"symbol", "hour"}]
        newest = F.max_by(F.struct(*columns), F.struct(F.coalesce("revision", F.lit(0)), "checked_at")).alias("newest")
        rows = before.join(F.broadcast(some), ["symbol", "hour"]).groupBy("symbol", "hour").agg(newest)
        listed = rows.select("symbol", F.unix_micros("hour").alias("hour"), "newest.*").where(lacks)
        return [
            HourCompleteness(
                row["exchange"], row["channel"], row["symbol"], from_micros(row["hour"]), row["first_id"],
                row["last_id"], row["expected"], row["actual"],
                tuple((int(ids["first_id"]), int(ids["last_id"])) for ids in row["missing"]),
                row["by_source"], row["state"], (row["seconds"] if "seconds" in columns else None) or {},
            )
            for row in listed.orderBy("symbol", "hour").collect()
        ]  # fmt: skip
