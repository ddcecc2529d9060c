"""Creation and verification of the Iceberg tables according to their specs and the stored format."""

from collections.abc import Iterable
from typing import Final

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.schemas.formats import FORMAT, TABLE_PROPERTY, OtherFormat
from k2.schemas.tables import CATALOG, NAMESPACE, Column, Table

_FORMAT_ONLY: Final = frozenset({"format-version"})  # Iceberg takes it at creation and does not store it


class TableDrifted(RuntimeError):
    """The columns of a table differ from its spec."""


def ensure(spark: SparkSession, tables: Iterable[Table]) -> None:
    """Create the namespace, missing tables, and nullable columns and properties that existing tables lack.

    Raises `OtherFormat` if an existing table was written in another format, and `TableDrifted` if it differs from its
    spec in any other way.
    """
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {CATALOG}.{NAMESPACE}")
    for table in tables:
        if spark.catalog.tableExists(table.identifier):
            _check_format(spark, table)
            _add_columns(spark, table)
            _add_properties(spark, table)
            verify(spark, table)
            continue
        spark.sql(ddl(table))
        if table.sort:
            spark.sql(f"ALTER TABLE {table.identifier} WRITE LOCALLY ORDERED BY {', '.join(map(_quoted, table.sort))}")


def ddl(table: Table) -> str:
    """Return the CREATE TABLE statement of a table."""
    columns = ", ".join(map(_definition, table.columns))
    partitions = ", ".join(
        _quoted(part.column) if part.transform == "identity" else f"{part.transform}s({_quoted(part.column)})"
        for part in table.partitions
    )
    properties = ", ".join(f"'{key}' = '{value}'" for key, value in table.all_properties.items())
    return (
        f"CREATE TABLE IF NOT EXISTS {table.identifier} ({columns}) USING iceberg "
        f"PARTITIONED BY ({partitions}) TBLPROPERTIES ({properties})"
    )


def check_formats(spark: SparkSession, tables: Iterable[Table]) -> None:
    """Raise `OtherFormat` if one of these tables exists and was written in another format."""
    for table in tables:
        if spark.catalog.tableExists(table.identifier):
            _check_format(spark, table)


def _check_format(spark: SparkSession, table: Table) -> None:
    """Raise `OtherFormat` for an existing table of another format. A table without the number has format 1."""
    actual = SnapshotHistory(spark, table).java_table().properties().get(TABLE_PROPERTY) or "1"
    if str(actual) != str(FORMAT):
        raise OtherFormat(f"the table {table.identifier}", str(actual))


def _add_columns(spark: SparkSession, table: Table) -> None:
    """Add the nullable columns that an existing table lacks: their spec is newer than the table."""

    def missing() -> list[Column]:
        names = set(spark.table(table.identifier).columns)
        return [column for column in table.columns if column.nullable and column.name not in names]

    if columns := missing():
        try:
            spark.sql(f"ALTER TABLE {table.identifier} ADD COLUMNS ({', '.join(map(_definition, columns))})")
        except PySparkException:
            spark.catalog.refreshTable(table.identifier)
            if missing():  # otherwise another process added them at the same time
                raise


def _add_properties(spark: SparkSession, table: Table) -> None:
    """Set the properties that an existing table lacks: their spec is newer. Those that it has are left alone."""

    def commit() -> None:
        java_table = SnapshotHistory(spark, table).java_table()
        stored = set(map(str, java_table.properties()))
        if lacking := {key: value for key, value in table.all_properties.items() if key not in stored | _FORMAT_ONLY}:
            update = java_table.updateProperties()
            for key, value in lacking.items():
                update.set(key, value)
            update.commit()

    retry_on_conflict(commit)


def verify(spark: SparkSession, table: Table) -> None:
    """Raise `TableDrifted`, with the differences, unless a table has exactly the columns of its spec."""
    actual = {field.name: field.dataType.simpleString() for field in spark.table(table.identifier).schema.fields}
    expected = {column.name: _simple(column.type) for column in table.columns}
    differences = [
        *(f"{name} {kind} is missing" for name, kind in expected.items() if name not in actual),
        *(f"{name} {kind} is not in the spec" for name, kind in actual.items() if name not in expected),
        *(f"{name} is {actual[name]}, not {kind}" for name, kind in expected.items() if actual.get(name, kind) != kind),
    ]
    if differences:
        raise TableDrifted(f"{table.identifier} was altered: {'; '.join(differences)}; restore it or rename it")


def _definition(column: Column) -> str:
    return f"{_quoted(column.name)} {column.type} COMMENT '{column.doc.replace(chr(39), '')}'"


def _quoted(name: str) -> str:
    return f"`{name}`"


def _simple(ddl_type: str) -> str:
    return ddl_type.replace(" ", "")
