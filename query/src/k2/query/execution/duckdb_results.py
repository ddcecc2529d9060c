"""What DuckDB answers, as Arrow, and its errors as what they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from k2.query.errors import BadQuery, TooLarge, Unavailable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from pyarrow import RecordBatch, RecordBatchReader, Schema

_BATCH: Final = 50_000  # rows: a few megabytes, so that a stream takes no more than that


def reader_of(connection: "DuckDBPyConnection", relation: "DuckDBPyRelation", what: str) -> "RecordBatchReader":
    """A relation's rows as they are read; the last of them closes the connection. Errors are told as `what`'s."""
    import pyarrow as pa

    source = relation.to_arrow_reader(_BATCH)
    schema = utc(source.schema)

    def batches() -> "Iterator[RecordBatch]":
        with told(what), connection:
            for batch in source:
                yield batch if batch.schema == schema else batch.cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def utc(schema: "Schema") -> "Schema":
    """The same with the time zone called UTC, as Iceberg calls it, where DuckDB says Etc/UTC."""
    import pyarrow as pa

    utc = pa.timestamp("us", "UTC")
    fields = [field.with_type(utc) if field.type == pa.timestamp("us", "Etc/UTC") else field for field in schema]
    return pa.schema(fields)


@contextmanager
def told(what: str) -> Iterator[None]:
    """DuckDB's errors in one line, as what they are."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.HTTPException, OSError) as error:
        raise Unavailable(f"the files of {what} cannot be read: {_line(error)}") from error
    except duckdb.OutOfMemoryException as error:
        raise TooLarge(f"{what} needs more memory for this than it may take; ask for less") from error
    except duckdb.Error as error:
        raise BadQuery(f"{what} cannot be answered: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).partition("\n\nLINE ")[0].split())[:300]
