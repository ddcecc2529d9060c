"""The log of a table's snapshots: whether the table was rolled back, and rows that were rewritten where none ever is.

Iceberg numbers the commits of a table. A rollback makes an earlier snapshot the current one and leaves the number
alone, so the next commit's is not one more than that of its parent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.audit.report import Finding
from k2.jobs.commit.snapshots import Log, Snapshot
from k2.jobs.spark.filesystem import hadoop_path
from k2.schemas.snapshots import CHECKED
from k2.schemas.tables import BATCHES_TABLE, COMPLETENESS_TABLE, GAPS_TABLE, Table
from k2.schemas.values import from_micros

MOST: Final = 100  # findings of a table

_PURGE: Final = 600.0  # seconds within which a purge that deleted rows has marked the table
_HOUR: Final = 3_600_000_000
# What of a row never changes, as an expression. Gaps are merged.
_FIXED: Final = {
    BATCHES_TABLE.name: "to_json(struct(*))",
    COMPLETENESS_TABLE.name: "to_json(struct(*))",
    GAPS_TABLE.name: "to_json(struct(gap_id, exchange, channel, feed, symbol, first_id, last_id))",
}
_TIMES: Final = {
    BATCHES_TABLE.name: "committed_at", COMPLETENESS_TABLE.name: "hour", GAPS_TABLE.name: "detected_at",
}  # fmt: skip
_CHECKS: Final = {
    BATCHES_TABLE.name: "ledger_changed", COMPLETENESS_TABLE.name: "verdict_changed", GAPS_TABLE.name: "gaps_changed",
}  # fmt: skip
AUDITED: Final = frozenset(_FIXED)


@dataclass(frozen=True, slots=True)
class Rollback:
    """The snapshot that a table was rolled back to, how many commits it lost, and their ids if known."""

    to: int
    commits: int
    lost: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What happened, for people."""
        number = "one commit was" if self.commits == 1 else f"{self.commits} commits were"
        ids = f": {', '.join(map(str, self.lost))}" if self.lost else ""
        return f"rolled back to snapshot {self.to}; {number} undone{ids}"


def rollbacks(log: Log) -> Iterator[Rollback]:
    """Yield the rollbacks of a table, as far as its log goes back."""
    if log.snapshots and log.last_sequence > log.snapshots[0].sequence:
        yield Rollback(log.snapshots[0].id, log.last_sequence - log.snapshots[0].sequence, log.lost)
    for child, parent in pairwise(log.snapshots):
        if child.parent == parent.id and child.sequence > parent.sequence + 1:
            yield Rollback(parent.id, child.sequence - parent.sequence - 1)


def altered_rows(spark: SparkSession, pinned: PinnedSnapshots, table: Table) -> Iterator[Finding]:
    """Yield a finding for each row of an audit table that was deleted or changed.

    The log says which commits may have done it. Retention and a purge delete rows too: the table's properties say so.
    Gaps are merged often, so the files that commits removed are read together.
    """
    purges = list(pinned.purged(table).values())
    suspects, excused = [], []
    for child, parent in pairwise(pinned.log(table).snapshots):
        if child.parent != parent.id or child.operation not in _suspect(table, child):
            continue
        if any(0 <= purged - child.committed_at <= _PURGE for purged in purges):
            excused.append(child)
        else:
            suspects.append((child, parent))
    rewriting = [child for child, _ in suspects if child.operation != "append"]
    if files := _removed_files(spark, table, rewriting):
        purged_rows = _removed_files(spark, table, excused)
        problem = "is not there any more, or has other values"
        yield from _findings(_lost(spark, pinned, table, files, purged_rows), table, problem, rewriting)
    if table is COMPLETENESS_TABLE:
        for child, parent in suspects:
            before, after = _only(spark, table, parent, child), _only(spark, table, child, parent)
            yield from _findings(_missing(after, [before], table), table, "is not of an audit", [child])


def _suspect(table: Table, child: Snapshot) -> tuple[str, ...]:
    """Return the operations by which nothing of K2 commits to a table, except what its properties tell."""
    if table is COMPLETENESS_TABLE:
        return () if CHECKED in child.summary else ("append", "delete", "overwrite")
    return "delete", "overwrite"


def _removed_files(spark: SparkSession, table: Table, commits: Sequence[Snapshot]) -> list[str]:
    """Return the data files that commits removed from a table."""
    if not commits:
        return []
    removed = spark.table(f"{table.identifier}.all_entries").where("status = 2 AND data_file.content = 0")
    rows = removed.where(F.col("snapshot_id").isin(*(one.id for one in commits)))
    return [row[0] for row in rows.select("data_file.file_path").distinct().collect()]


def _lost(
    spark: SparkSession, pinned: PinnedSnapshots, table: Table, files: Sequence[str], purged: Sequence[str]
) -> DataFrame:
    """Return what names the rows of removed files that are nowhere in the table.

    Not those of retention, nor those that were there until a purge removed their files.
    """
    there = [pinned.rows(table), *([_read(spark, purged)] if purged else [])]
    removed = _missing(_read(spark, files), there, table)
    if (pruned := pinned.pruned_before(table)) is not None:
        removed = removed.where(F.col("at") >= F.lit(pruned).cast("timestamp"))
    return removed


def _findings(rows: DataFrame, table: Table, problem: str, commits: Sequence[Snapshot]) -> Iterator[Finding]:
    """Yield a finding for each row; `commits` are those that may have done it, newest first."""
    newest, oldest = commits[0].id, commits[-1].id
    since = f"since snapshot {oldest}" if newest == oldest else f"since a snapshot of {oldest} to {newest}"
    for row in rows.withColumn("at", F.expr("unix_micros(at)")).limit(MOST).collect():
        at = int(row["at"])
        text = f"{table.name}: {row['name']} {problem} {since}"
        hour = f"{from_micros(at - at % _HOUR):%Y-%m-%dT%H:00Z}"
        channel, symbol = row["channel"] or "", row["symbol"] or ""
        yield Finding(row["exchange"], channel, _CHECKS[table.name], text, table.name, symbol, hour)


def _only(spark: SparkSession, table: Table, one: Snapshot, other: Snapshot) -> DataFrame:
    """Return the rows of those files that only one of two snapshots has."""
    files = [
        spark.sql(f"SELECT file_path FROM {table.identifier}.files VERSION AS OF {snapshot.id}")  # noqa: S608
        for snapshot in (one, other)
    ]
    paths = [row[0] for row in files[0].join(files[1], "file_path", "left_anti").collect()]
    return _read(spark, paths) if paths else spark.table(table.identifier).where("false")


def _read(spark: SparkSession, paths: Sequence[str]) -> DataFrame:
    return spark.read.option("mergeSchema", "true").parquet(*map(hadoop_path, paths))


def _missing(rows: DataFrame, there: Sequence[DataFrame], table: Table) -> DataFrame:
    """Return what names the rows that are not `there`, and their time as `at`."""
    fixed = _fixed(table)
    named = rows.select(fixed, F.expr(_TIMES[table.name]).alias("at"), *_names(rows, table))
    for others in there:
        named = named.join(others.select(fixed), "fixed", "left_anti")
    return named.dropDuplicates(["fixed"])


def _fixed(table: Table) -> Column:
    return F.expr(_FIXED[table.name]).alias("fixed")


def _names(rows: DataFrame, table: Table) -> list[Column]:
    names = {
        BATCHES_TABLE.name: "concat('the row of ', layer, ' epoch ', epoch, ' of ', exchange, ' ', channel)",
        COMPLETENESS_TABLE.name: "concat('a verdict on ', exchange, ' ', symbol, ' ', date_format(hour, "
        "\"yyyy-MM-dd'T'HH:mm'Z'\"))",
        GAPS_TABLE.name: "concat('the gap ', gap_id, ' of ', exchange, ' ', symbol)",
    }
    absent = [F.lit("").alias(name) for name in ("channel", "symbol") if name not in rows.columns]
    present = [F.col(name) for name in ("exchange", "channel", "symbol") if name in rows.columns]
    return [*present, *absent, F.expr(names[table.name]).alias("name")]
