"""The verdicts in `audit_completeness`: read in the order in which they were written, and appended."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.verdicts.verdict import HASHED, Chain
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.snapshots import CHECKED
from k2.schemas.tables import COMPLETENESS_TABLE
from k2.schemas.values import from_micros

_TIMES: Final = ("hour", "checked_at")


def chain(rows: DataFrame, exchange: str, channel: str) -> Chain:
    """Return the chain of one channel of an exchange, given by its label, from rows of audit_completeness.

    Results of an older version, which have no revision, are no part of it.
    """
    result = Chain()
    if "revision" not in rows.columns:  # a snapshot has the columns that its table had then
        return result
    own = (F.col("exchange") == exchange) & (F.col("channel") == channel) & F.col("revision").isNotNull()
    columns = [F.unix_micros(name).alias(name) if name in _TIMES else F.col(name) for name in HASHED]
    ordered = rows.where(own).select(*columns).orderBy("symbol", "checked_at", "hour", "revision")
    for row in ordered.toLocalIterator():
        result.read(row.asDict(recursive=True))
    return result


def append(spark: SparkSession, rows: Iterable[Mapping[str, Any]], checked_at: int) -> None:
    """Append verdicts, in one commit that also says when the audit ran (UTC microseconds). It may have no rows."""
    sent = [{**row, **{name: from_micros(row[name]) for name in _TIMES}} for row in rows]
    schema = ", ".join(f"`{column.name}` {column.type}" for column in COMPLETENESS_TABLE.columns)
    writer = local_frame(spark, sent, schema).writeTo(COMPLETENESS_TABLE.identifier)
    retry_on_conflict(writer.option(f"snapshot-property.{CHECKED}", str(checked_at)).append)
