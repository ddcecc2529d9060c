"""Convert DuckDB results to Arrow, and DuckDB errors to query errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from k2.query.errors import BadQuery, TooLarge, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from pyarrow import RecordBatch, RecordBatchReader, Schema

_BATCH_ROWS: Final = 50_000  # a few megabytes, which bounds the memory of a stream


def to_reader(connection: DuckDBPyConnection, relation: DuckDBPyRelation, subject: str) -> RecordBatchReader:
    """Return a relation's rows as they are read; the connection is closed after the last. Errors name `subject`."""
    import pyarrow as pa

    source = relation.to_arrow_reader(_BATCH_ROWS)
    schema = with_utc(source.schema)

    def batches() -> Iterator[RecordBatch]:
        with duckdb_errors(subject), connection:
            for batch in source:
                yield batch if batch.schema == schema else batch.cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def with_utc(schema: Schema) -> Schema:
    """Return the schema with the time zone UTC, as Iceberg names it, instead of DuckDB's Etc/UTC."""
    import pyarrow as pa

    utc = pa.timestamp("us", "UTC")
    fields = [field.with_type(utc) if field.type == pa.timestamp("us", "Etc/UTC") else field for field in schema]
    return pa.schema(fields)


@contextmanager
def duckdb_errors(subject: str) -> Iterator[None]:
    """Raise DuckDB's errors as `Unavailable`, `TooLarge` or `BadQuery`, in one line."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.HTTPException, OSError) as error:
        raise Unavailable(f"the files of {subject} cannot be read: {_one_line(error)}") from error
    except duckdb.OutOfMemoryException as error:
        raise TooLarge(f"{subject} exceeds the memory limit of a query; narrow the range or the columns") from error
    except duckdb.Error as error:
        raise BadQuery(f"{subject} cannot be executed: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).partition("\n\nLINE ")[0].split())[:300]
