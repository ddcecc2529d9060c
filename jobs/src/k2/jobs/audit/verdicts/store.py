"""The verdicts in `audit_completeness`: read in the order in which they were written, and appended."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.incremental.anchor import Anchor
from k2.jobs.audit.verdicts.chain import Chain
from k2.jobs.audit.verdicts.verdict import HASHED
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.snapshots import CHECKED, JUDGED
from k2.schemas.tables import COMPLETENESS_TABLE
from k2.schemas.values import from_micros, to_micros

Row = Mapping[str, Any]

_TIMES: Final = ("hour", "checked_at")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdicts of one channel of an exchange, given by its label, in rows of audit_completeness.

    Results of an older version, which have no revision, are left out.
    """

    rows: DataFrame
    exchange: str
    channel: str

    @property
    def own(self) -> DataFrame:
        """The rows."""
        if "revision" not in self.rows.columns:  # a snapshot has the columns that its table had then
            return self.rows.where("false").withColumn("revision", F.lit(None).cast("int"))
        own = (F.col("exchange") == self.exchange) & (F.col("channel") == self.channel)
        return self.rows.where(own & F.col("revision").isNotNull())

    def chain(self, altered: Iterable[Row] = (), forged: Iterable[Row] = (), since: datetime | None = None) -> Chain:
        """Return the chain, or its part that was written since a time.

        `altered` are rows as they were before something changed or deleted them, `forged` are rows that no audit wrote.
        """
        if "revision" not in self.rows.columns:
            return Chain()
        rows = self.own if since is None else self.own.where(F.col("checked_at") >= F.lit(since))
        ordered = rows.select(*_columns(rows)).orderBy("symbol", "checked_at", "hour", "revision")
        read = (row.asDict(recursive=True) for row in ordered.toLocalIterator())
        return Chain(read, self._among(altered), self._among(forged), partial=since is not None)

    def _among(self, rows: Iterable[Row]) -> Iterator[Row]:
        return (row for row in rows if (row["exchange"], row["channel"]) == (self.exchange, self.channel))

    def last_of(self, symbols: Sequence[str]) -> list[dict[str, Any]]:
        """Return the verdict that was written last of each of some symbols."""
        if not symbols or "revision" not in self.rows.columns:
            return []
        at = F.struct("checked_at", "hour", "revision")
        rows = self.own.where(F.col("symbol").isin(*symbols)).select(*_columns(self.rows))
        last = rows.groupBy("symbol").agg(F.max_by(F.struct(*HASHED), at).alias("last")).select("last.*")
        return [row.asDict(recursive=True) for row in last.collect()]


def _columns(rows: DataFrame) -> list[Column]:
    """Return the columns that a verdict's hash covers; null where the table did not have them then."""
    present = [name if name in rows.columns else None for name in HASHED]
    return [
        (F.lit(None) if column is None else F.unix_micros(column) if column in _TIMES else F.col(column)).alias(name)
        for name, column in zip(HASHED, present, strict=True)
    ]


def parse(text: str) -> dict[str, Any]:
    """Return a verdict that Spark wrote as JSON, without fields that are null and with microseconds in its times."""
    row = dict.fromkeys(HASHED) | json.loads(text)
    return {**row, **{name: to_micros(datetime.fromisoformat(row[name])) for name in _TIMES}}


def append(spark: SparkSession, rows: Iterable[Mapping[str, Any]], checked_at: int) -> None:
    """Append verdicts, in one commit that also says when the audit ran (UTC microseconds). It may have no rows."""
    sent = [{**row, **{name: from_micros(row[name]) for name in _TIMES}} for row in rows]
    schema = ", ".join(f"`{column.name}` {column.type}" for column in COMPLETENESS_TABLE.columns)
    writer = local_frame(spark, sent, schema).writeTo(COMPLETENESS_TABLE.identifier)
    retry_on_conflict(writer.option(f"snapshot-property.{CHECKED}", str(checked_at)).append)


def note_rebuilds(spark: SparkSession, judged: Mapping[str, int]) -> None:
    """Record which rebuilds were judged, by property of audit_completeness, after the verdicts are stored."""
    if not judged:
        return

    def commit() -> None:
        update = SnapshotHistory(spark, COMPLETENESS_TABLE).java_table().updateProperties()
        for key, at in judged.items():
            update = update.set(key, str(at))
        update.commit()

    retry_on_conflict(commit)


def anchor(spark: SparkSession) -> Anchor | None:
    """Return what the last audit without findings has judged; None if none has."""
    properties = SnapshotHistory(spark, COMPLETENESS_TABLE).java_table().properties()
    text = properties.get(JUDGED)
    return Anchor.parse(None if text is None else str(text))


def keep(spark: SparkSession, judged: Anchor) -> None:
    """Keep an anchor for the next audit, in a property of audit_completeness."""

    def commit() -> None:
        table = SnapshotHistory(spark, COMPLETENESS_TABLE).java_table()
        table.updateProperties().set(JUDGED, judged.text()).commit()

    retry_on_conflict(commit)
