"""The tables that the audit needs: those that the catalog lacks, and those whose metadata cannot be read."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pyspark.sql import SparkSession

from k2.jobs.commit import retry
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.telemetry import error_summary
from k2.schemas.tables import CATALOG, NAMESPACE, Table


@dataclass(frozen=True, slots=True)
class BrokenTable:
    """A table that cannot be audited: the check that says so, and the reason."""

    check: str
    text: str


def names(spark: SparkSession) -> set[str]:
    """Return the names of all tables in the catalog."""
    return {row["tableName"] for row in spark.sql(f"SHOW TABLES IN {CATALOG}.{NAMESPACE}").collect()}


def broken(spark: SparkSession, tables: Iterable[Table], present: Iterable[str]) -> Mapping[str, BrokenTable]:
    """Return, by name, the tables that are not `present` or cannot be loaded."""
    in_catalog, problems = set(present), {}
    for table in tables:
        if table.name not in in_catalog:
            problems[table.name] = BrokenTable("table_missing", "the catalog has no such table any more")
            continue
        try:
            SnapshotHistory(spark, table).java_table()
        except retry.ERRORS as error:
            reason = error_summary.summarize(error_summary.full_text(error))
            problems[table.name] = BrokenTable("table_unreadable", f"its metadata cannot be read: {reason}")
    return problems


def origins(spark: SparkSession, tables: Iterable[Table]) -> set[tuple[str, str]]:
    """Return the exchanges and channels, as labels and names, that tables have rows of; those that can be read."""
    rows: set[tuple[str, str]] = set()
    for table in tables:
        with suppress(*retry.ERRORS):  # a table that cannot be read is a finding of its own
            distinct = spark.table(table.identifier).select("exchange", "channel").distinct()
            rows |= {(row["exchange"], row["channel"]) for row in distinct.collect()}
    return rows
