"""Spark's side of the table specs: creates what is missing, refuses what was changed by hand."""

from collections.abc import Iterable

from pyspark.sql import SparkSession

from k2.schemas.tables import CATALOG, NAMESPACE, Table


class TableDrifted(RuntimeError):
    """A table whose columns are not those of its spec."""


def ensure(spark: SparkSession, tables: Iterable[Table]) -> None:
    """Creates the namespace and the tables that are missing. Raises `TableDrifted` for one that was altered."""
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {CATALOG}.{NAMESPACE}")
    for table in tables:
        if spark.catalog.tableExists(table.identifier):
            verify(spark, table)
            continue
        spark.sql(ddl(table))
        if table.sort:
            spark.sql(f"ALTER TABLE {table.identifier} WRITE LOCALLY ORDERED BY {', '.join(map(_quoted, table.sort))}")


def ddl(table: Table) -> str:
    """The statement that creates a table."""
    columns = ", ".join(
        f"{_quoted(column.name)} {column.type} COMMENT '{column.doc.replace(chr(39), '')}'" for column in table.columns
    )
    partitions = ", ".join(
        _quoted(part.column) if part.transform == "identity" else f"{part.transform}s({_quoted(part.column)})"
        for part in table.partitions
    )
    properties = ", ".join(f"'{key}' = '{value}'" for key, value in table.all_properties.items())
    return (
        f"CREATE TABLE IF NOT EXISTS {table.identifier} ({columns}) USING iceberg "
        f"PARTITIONED BY ({partitions}) TBLPROPERTIES ({properties})"
    )


def verify(spark: SparkSession, table: Table) -> None:
    """Raises `TableDrifted` with the difference unless a table has exactly the columns of its spec."""
    found = {field.name: field.dataType.simpleString() for field in spark.table(table.identifier).schema.fields}
    wanted = {column.name: _simple(column.type) for column in table.columns}
    differences = [
        *(f"{name} {kind} is missing" for name, kind in wanted.items() if name not in found),
        *(f"{name} {kind} is not in the spec" for name, kind in found.items() if name not in wanted),
        *(f"{name} is {found[name]}, not {kind}" for name, kind in wanted.items() if found.get(name, kind) != kind),
    ]
    if differences:
        raise TableDrifted(f"{table.identifier} was altered: {'; '.join(differences)}; restore it or rename it away")


def _quoted(name: str) -> str:
    return f"`{name}`"


def _simple(ddl_type: str) -> str:
    return ddl_type.replace(" ", "")
