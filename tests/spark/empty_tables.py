"""Empty tables, created once by a worker, and afterwards put into its catalog again.

To create an exchange's tables takes Spark some thirty statements, longer than many a test. Iceberg never changes a
file, so an empty table is what the catalog said of it, as long as nothing has deleted its first metadata.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from k2.common.platform import Platform
from k2.jobs.spark import tables as spark_tables
from k2.schemas.tables import CATALOG, NAMESPACE, Table

Entry = tuple[Any, ...]  # a table in the catalog; third its name, fourth where its metadata are

_SQLITE = "sqlite:///"
_NAME, _METADATA = 2, 3
_created: dict[tuple[str, str], Entry] = {}  # by the catalog and the table's name


def ensure(spark: SparkSession, platform: Platform, tables: Iterable[Table]) -> None:
    """Put those tables that the catalog lacks into it, empty. In a catalog of another type they are created."""
    uri = platform.catalog_uri
    if not uri.startswith(_SQLITE):
        spark_tables.ensure(spark, tables)
        return
    present = {entry[_NAME] for entry in entries(platform)}
    missing = [table for table in tables if table.name not in present]
    there = [entry for table in missing if (entry := _created.get((uri, table.name))) and _exists(entry)]
    add(platform, there)
    created = {table.name for table in missing} - {entry[_NAME] for entry in there}
    spark_tables.ensure(spark, [table for table in missing if table.name in created])
    _created.update({(uri, entry[_NAME]): entry for entry in entries(platform) if entry[_NAME] in created})


def remove_all(spark: SparkSession, platform: Platform) -> None:
    """Remove every table from the catalog; their files stay, as with Spark's `DROP TABLE`."""
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {CATALOG}.{NAMESPACE}")
    spark.catalog.clearCache()
    with closing(catalog(platform)) as opened, opened:
        opened.execute("DELETE FROM iceberg_tables")


def entries(platform: Platform) -> list[Entry]:
    """Return what the catalog says of its tables."""
    with closing(catalog(platform)) as opened:
        return opened.execute("SELECT * FROM iceberg_tables").fetchall()


def add(platform: Platform, tables: list[Entry]) -> None:
    """Put tables into the catalog, which has none of their names."""
    if tables:
        with closing(catalog(platform)) as opened, opened:
            opened.executemany(f"INSERT INTO iceberg_tables VALUES ({', '.join('?' * len(tables[0]))})", tables)


def catalog(platform: Platform) -> sqlite3.Connection:
    """Open the catalog."""
    return sqlite3.connect(platform.catalog_uri.removeprefix(_SQLITE), timeout=30)


def _exists(entry: Entry) -> bool:
    return Path(entry[_METADATA].removeprefix("file:")).exists()
