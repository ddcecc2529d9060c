"""Rows that were rewritten or deleted in tables whose rows nothing of K2 rewrites or deletes, but retention and purges.

A commit that does so is in the table's log, until its snapshot expires: what it removed is compared with what is there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.audit.report import Finding
from k2.jobs.audit.storage.redriven import POSITION
from k2.jobs.commit.snapshots import Snapshot
from k2.jobs.spark.filesystem import hadoop_path
from k2.schemas.snapshots import CHECKED
from k2.schemas.tables import (
    BATCHES_TABLE,
    COMPLETENESS_TABLE,
    DEAD_LETTERS_TABLE,
    GAPS_TABLE,
    INSTRUMENTS_TABLE,
    Table,
)
from k2.schemas.values import from_micros

MOST: Final = 100  # findings of a table

_PURGE: Final = 600.0  # seconds within which a purge that deleted rows has marked the table
_HOUR: Final = 3_600_000_000
_TIMES: Final = "map('timestampFormat', \"yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX\")"
_ALL: Final = f"to_json(struct(*), {_TIMES})"
_AT: Final = "\"yyyy-MM-dd'T'HH:mm'Z'\""


@dataclass(frozen=True, slots=True)
class Kind:
    """What of a table's rows never changes, what names a row to people, and its time: SQL expressions.

    `check` is the name of the findings; `symbol` is an expression too, empty where a row has none. `channel` says
    whether rows have one.
    """

    check: str
    fixed: str
    name: str
    time: str
    symbol: str = ""
    channel: bool = True
    position: tuple[str, ...] = ()  # columns; with them, only rows that are still there, with other values


_POSITION: Final = "topic, '/', partition, ' offset ', offset"
_INSTRUMENT: Final = ", ".join(
    name for name in INSTRUMENTS_TABLE.column_names if name not in {"valid_to", "delisted_at"}
)
_KINDS: Final = {
    BATCHES_TABLE.name: Kind(
        "ledger_changed", _ALL, "concat('the row of ', layer, ' epoch ', epoch, ' of ', exchange, ' ', channel)",
        "committed_at",
    ),
    COMPLETENESS_TABLE.name: Kind(
        "verdict_changed", _ALL, f"concat('a verdict on ', exchange, ' ', symbol, ' ', date_format(hour, {_AT}))",
        "hour", "symbol",
    ),
    # Gaps are merged, and instruments get the time until which a version is valid.
    GAPS_TABLE.name: Kind(
        "gaps_changed", "to_json(struct(gap_id, exchange, channel, feed, symbol, first_id, last_id))",
        "concat('the gap ', gap_id, ' of ', exchange, ' ', symbol)", "detected_at", "symbol",
    ),
    INSTRUMENTS_TABLE.name: Kind(
        "instruments_changed", f"to_json(struct({_INSTRUMENT}))",
        f"concat('the version of ', exchange, ' ', raw_symbol, ' from ', date_format(valid_from, {_AT}))",
        "valid_from", "symbol", channel=False,
    ),
    DEAD_LETTERS_TABLE.name: Kind(
        "dead_letters_changed", _ALL, f"concat('the dead letter of ', {_POSITION})", "dead_lettered_at",
    ),
}  # fmt: skip
_BRONZE: Final = Kind(
    "bronze_changed",
    f"to_json(struct(key, topic, partition, offset, kafka_timestamp, sha2(value, 256) AS value), {_TIMES})",
    f"concat('the row of ', {_POSITION})",
    "kafka_timestamp",
    "CAST(key AS STRING)",
    channel=False,
    position=("topic", "partition", "offset"),
)


def kind_of(table: Table) -> Kind | None:
    """Return what is known of a table's rows; None if something of K2 may rewrite them, or other checks suffice."""
    return _BRONZE if table.name.startswith("bronze_") else _KINDS.get(table.name)


@dataclass(frozen=True, slots=True)
class AlteredRow:
    """A finding about a row, and what of it never changes, as JSON: a row that is gone, or one that was `added`."""

    finding: Finding
    content: str
    added: bool = False


def altered_rows(
    spark: SparkSession, pinned: PinnedSnapshots, table: Table, kind: Kind, redriven: DataFrame | None = None
) -> Iterator[AlteredRow]:
    """Yield each row of an audit table that was deleted or changed, or that no audit added.

    The log says which commits may have done it. Retention and a purge delete rows too: the table's properties say so.
    So does a redrive: a dead letter at one of the positions of `redriven` was judged again. Gaps are merged often, so
    the files that commits removed are read together.
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
    if files := _removed_files(spark, table, kind, rewriting, pinned.pruned_before(table)):
        purged_rows = _removed_files(spark, table, kind, excused)
        problem = "is not there any more, or has other values"
        lost = _lost(spark, pinned, table, kind, files, purged_rows, redriven)
        yield from _findings(lost, table, kind, problem, rewriting)
    if table is COMPLETENESS_TABLE:
        for child, parent in suspects:
            before, after = _only(spark, table, parent, child), _only(spark, table, child, parent)
            yield from _findings(
                _missing(after, [before], kind), table, kind, "is not of an audit", [child], added=True
            )


def _suspect(table: Table, child: Snapshot) -> tuple[str, ...]:
    """Return the operations by which nothing of K2 commits to a table, except what its properties tell."""
    if table is COMPLETENESS_TABLE:
        return () if CHECKED in child.summary else ("append", "delete", "overwrite")
    return "delete", "overwrite"


def _removed_files(
    spark: SparkSession, table: Table, kind: Kind, commits: Sequence[Snapshot], pruned: str | None = None
) -> list[str]:
    """Return the data files that commits removed from a table, but those of which all rows are older than `pruned`."""
    if not commits:
        return []
    removed = spark.table(f"{table.identifier}.all_entries").where("status = 2 AND data_file.content = 0")
    if pruned is not None:  # what retention removed is not read
        newest = F.col(f"readable_metrics.{kind.time}.upper_bound")
        removed = removed.where(F.coalesce(newest >= F.lit(pruned).cast("timestamp"), F.lit(True)))
    rows = removed.where(F.col("snapshot_id").isin(*(one.id for one in commits)))
    return [row[0] for row in rows.select("data_file.file_path").distinct().collect()]


def _lost(
    spark: SparkSession,
    pinned: PinnedSnapshots,
    table: Table,
    kind: Kind,
    files: Sequence[str],
    purged: Sequence[str],
    redriven: DataFrame | None,
) -> DataFrame:
    """Return what names the rows of removed files that are nowhere in the table.

    Not those of retention, nor those that were there until a purge removed their files, nor those that were redriven.
    """
    there = [pinned.rows(table), *([_read(spark, purged)] if purged else [])]
    rows = _read(spark, files)
    if kind.position:
        rows = rows.join(there[0].select(*kind.position), list(kind.position), "left_semi")
    if redriven is not None:
        # A join changes the order of columns.
        rows = rows.join(redriven, list(POSITION), "left_anti").select(*rows.columns)
    removed = _missing(rows, there, kind)
    if (pruned := pinned.pruned_before(table)) is not None:
        removed = removed.where(F.col("at") >= F.lit(pruned).cast("timestamp"))
    return removed


def _findings(
    rows: DataFrame, table: Table, kind: Kind, problem: str, commits: Sequence[Snapshot], *, added: bool = False
) -> Iterator[AlteredRow]:
    """Yield each row with its finding; `commits` are those that may have done it, newest first."""
    newest, oldest = commits[0].id, commits[-1].id
    since = f"since snapshot {oldest}" if newest == oldest else f"since a snapshot of {oldest} to {newest}"
    for row in rows.withColumn("at", F.expr("unix_micros(at)")).limit(MOST).collect():
        at = int(row["at"])
        text = f"{table.name}: {row['name']} {problem} {since}"
        hour = f"{from_micros(at - at % _HOUR):%Y-%m-%dT%H:00Z}"
        channel, symbol = row["channel"] or "", row["symbol"] or ""
        finding = Finding(row["exchange"], channel, kind.check, text, table.name, symbol, hour)
        yield AlteredRow(finding, row["fixed"], added)


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


def _missing(rows: DataFrame, there: Sequence[DataFrame], kind: Kind) -> DataFrame:
    """Return what names the rows that are not `there`, and their time as `at`."""
    fixed = _fixed(kind)
    named = rows.select(fixed, F.expr(kind.time).alias("at"), *_names(rows, kind))
    for others in there:
        named = named.join(others.select(fixed), "fixed", "left_anti")
    return named.dropDuplicates(["fixed"])


def _fixed(kind: Kind) -> Column:
    return F.expr(kind.fixed).alias("fixed")


def _names(rows: DataFrame, kind: Kind) -> list[Column]:
    has_channel = kind.channel and "channel" in rows.columns  # a snapshot has the columns that its table had then
    return [
        (F.col("exchange") if "exchange" in rows.columns else F.lit("")).alias("exchange"),
        (F.col("channel") if has_channel else F.lit("")).alias("channel"),
        F.coalesce(F.expr(kind.symbol or "''"), F.lit("")).alias("symbol"),
        F.expr(kind.name).alias("name"),
    ]
