"""Make a plan's files readable by DuckDB.

DuckDB reads local files itself, column by column and matched by Iceberg's field ids, so that renamed and added columns
are right in old files too. Files in S3 go through a pyarrow dataset, into which DuckDB pushes projection and filters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlparse

from k2.query.iceberg.catalog import catalog_errors
from k2.query.sql.quoting import quote_identifier, quote_literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow import Schema
    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem
    from pyiceberg.types import IcebergType

    from k2.query.iceberg.scan_planner import ScanPlan

_TYPES: Final = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
}


def attach(connection: DuckDBPyConnection, name: str, plan: ScanPlan) -> None:
    """Create a view of the plan's rows. Pruned rows may be missing; none appears twice."""
    if plan.scan is not None:
        with catalog_errors(name):
            connection.register(name, plan.scan.to_arrow())
    elif plan.files and not is_local(plan):
        connection.register(name, dataset(plan))
    else:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote_identifier(name)} AS {select_statement(plan)}")


def inline_view(connection: DuckDBPyConnection, name: str, plan: ScanPlan, statement: str) -> str:
    """Return the SELECT with the plan's rows under `name`; a CTE, because a view of local files is bound twice."""
    if plan.scan is not None or not is_local(plan):
        attach(connection, name, plan)
        return statement
    return f"WITH {quote_identifier(name)} AS NOT MATERIALIZED ({select_statement(plan)}) {statement}"


def is_local(plan: ScanPlan) -> bool:
    """Return whether DuckDB can open every file itself."""
    return all(urlparse(file).scheme in {"", "file"} for file in plan.files)


def paths(plan: ScanPlan) -> list[str]:
    """Return local files as file system paths."""
    return [file if file.startswith("/") else unquote(urlparse(file).path) for file in plan.files]


def dataset(plan: ScanPlan) -> Dataset:
    """Return the files as a dataset on the file system that Iceberg reads them with."""
    from pyarrow import dataset as arrow

    locations, schema, file_system = remote(plan)
    return arrow.dataset(locations, format="parquet", schema=schema, filesystem=file_system)


def remote(plan: ScanPlan) -> tuple[list[str], Schema, FileSystem]:
    """Return the files' paths, their columns, and the file system that Iceberg reads them with."""
    from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow

    io = plan.table.io
    assert isinstance(io, PyArrowFileIO)
    schema = schema_to_pyarrow(plan.schema, include_field_ids=False)
    locations = [PyArrowFileIO.parse_location(file) for file in plan.files]
    scheme, netloc, _ = locations[0]
    return [path for _, _, path in locations], schema, io.fs_by_scheme(scheme, netloc)


def select_statement(plan: ScanPlan, files: list[str] | None = None) -> str:
    """Return the statement that reads local files, spelled as in `files`; without any, the columns without rows."""
    if not plan.files:
        nulls = ", ".join(
            f"NULL::{duckdb_type(field.field_type)} AS {quote_identifier(field.name)}" for field in plan.schema.fields
        )
        return f"SELECT {nulls} WHERE false"
    columns = ", ".join(
        f"{field.field_id}: {{name: {quote_literal(field.name)}, type: {quote_literal(duckdb_type(field.field_type))}, "
        "default_value: NULL}"
        for field in plan.schema.fields
    )
    names = ", ".join(quote_literal(path) for path in (paths(plan) if files is None else files))
    return f"SELECT * FROM read_parquet([{names}], schema = MAP {{{columns}}})"  # noqa: S608 - quoted by literal()


def duckdb_type(iceberg_type: IcebergType) -> str:
    """Return DuckDB's name of an Iceberg type."""
    from pyiceberg.types import DecimalType, ListType, MapType, StructType

    if isinstance(iceberg_type, DecimalType):
        return f"DECIMAL({iceberg_type.precision},{iceberg_type.scale})"
    if isinstance(iceberg_type, ListType):
        return f"{duckdb_type(iceberg_type.element_type)}[]"
    if isinstance(iceberg_type, MapType):
        return f"MAP({duckdb_type(iceberg_type.key_type)}, {duckdb_type(iceberg_type.value_type)})"
    if isinstance(iceberg_type, StructType):
        fields = [f"{quote_identifier(field.name)} {duckdb_type(field.field_type)}" for field in iceberg_type.fields]
        return f"STRUCT({', '.join(fields)})"
    return _TYPES[str(iceberg_type)]
