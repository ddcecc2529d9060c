"""A plan's files as something DuckDB can select from.

Local files are read by DuckDB itself, column by column and matched by Iceberg's field ids, so that renamed and added
columns are right in old files too. Files in a bucket go through a pyarrow dataset, which DuckDB narrows the same way.
"""

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlparse

from k2.query.iceberg.scan_planner import Plan, reaching

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow.dataset import Dataset
    from pyiceberg.types import IcebergType

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


def attach(connection: "DuckDBPyConnection", name: str, plan: Plan) -> None:
    """Makes the plan's rows a view of that name. Rows that were pruned may be missing, none is there twice."""
    if plan.scan is not None:
        with reaching(name):
            connection.register(name, plan.scan.to_arrow())
    elif plan.files and not local(plan):
        connection.register(name, dataset(plan))
    else:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {identifier(name)} AS {select(plan)}")


def within(connection: "DuckDBPyConnection", name: str, plan: Plan, statement: str) -> str:
    """The statement, a SELECT, with the plan's rows under that name. A view of local files would be bound twice."""
    if plan.scan is not None or not local(plan):
        attach(connection, name, plan)
        return statement
    return f"WITH {identifier(name)} AS NOT MATERIALIZED ({select(plan)}) {statement}"


def local(plan: Plan) -> bool:
    """Whether DuckDB can open every file itself."""
    return all(urlparse(file).scheme in {"", "file"} for file in plan.files)


def paths(plan: Plan) -> list[str]:
    """Local files as the file system names them."""
    return [file if file.startswith("/") else unquote(urlparse(file).path) for file in plan.files]


def dataset(plan: Plan) -> "Dataset":
    """The files, wherever they are, through the file system that Iceberg reads them with."""
    from pyarrow import dataset as arrow
    from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow

    io = plan.table.io
    assert isinstance(io, PyArrowFileIO)
    schema = schema_to_pyarrow(plan.schema, include_field_ids=False)
    located = [PyArrowFileIO.parse_location(file) for file in plan.files]
    scheme, netloc, _ = located[0]
    return arrow.dataset(
        [path for _, _, path in located], format="parquet", schema=schema, filesystem=io.fs_by_scheme(scheme, netloc)
    )


def select(plan: Plan) -> str:
    """The statement that reads local files; of no files, the columns without rows."""
    if not plan.files:
        nulls = ", ".join(
            f"NULL::{duckdb_type(field.field_type)} AS {identifier(field.name)}" for field in plan.schema.fields
        )
        return f"SELECT {nulls} WHERE false"
    columns = ", ".join(
        f"{field.field_id}: {{name: {literal(field.name)}, type: {literal(duckdb_type(field.field_type))}, "
        "default_value: NULL}"
        for field in plan.schema.fields
    )
    names = ", ".join(literal(path) for path in paths(plan))
    return f"SELECT * FROM read_parquet([{names}], schema = MAP {{{columns}}})"  # noqa: S608 - quoted by literal()


def duckdb_type(kind: "IcebergType") -> str:
    """DuckDB's name of an Iceberg type."""
    from pyiceberg.types import DecimalType, ListType, MapType, StructType

    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if isinstance(kind, ListType):
        return f"{duckdb_type(kind.element_type)}[]"
    if isinstance(kind, MapType):
        return f"MAP({duckdb_type(kind.key_type)}, {duckdb_type(kind.value_type)})"
    if isinstance(kind, StructType):
        return f"STRUCT({', '.join(f'{identifier(f.name)} {duckdb_type(f.field_type)}' for f in kind.fields)})"
    return _TYPES[str(kind)]


def literal(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as SQL writes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
