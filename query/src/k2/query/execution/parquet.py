"""Write rows as a Parquet file, one row group at a time, for the command line and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from k2.query.errors import BadQuery
from k2.query.execution.row_encoding import exact_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyarrow import RecordBatch, RecordBatchReader, Schema

_ROW_GROUP_ROWS: Final = 100_000  # or a batch more


def write(reader: RecordBatchReader, sink: Any, alternative: str) -> Iterator[int]:
    """Write all rows; yield the row count of each group once it is written. The file is complete after the last.

    Intervals, for which Parquet has no type that others read, are texts. Raises `BadQuery`, which suggests the
    `alternative`, for a column that Parquet has no type for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _with_interval_texts(reader.schema)
    try:
        writer = pq.ParquetWriter(sink, schema, compression="zstd", compression_level=1)
    except pa.ArrowNotImplementedError as error:
        raise BadQuery(f"Parquet has no type for a column: {error}; cast it, or {alternative}") from error
    with writer:
        pending: list[RecordBatch] = []
        for batch in reader:
            pending.append(batch if batch.schema == schema else _interval_texts(batch, schema))
            if sum(one.num_rows for one in pending) >= _ROW_GROUP_ROWS:
                yield _write_row_group(writer, pending)
                pending = []
        if pending:
            yield _write_row_group(writer, pending)


def _write_row_group(writer: Any, batches: list[RecordBatch]) -> int:
    import pyarrow as pa

    table = pa.Table.from_batches(batches)
    writer.write_table(table)
    return int(table.num_rows)


def _with_interval_texts(schema: Schema) -> Schema:
    import pyarrow as pa

    return pa.schema([one.with_type(pa.string()) if pa.types.is_interval(one.type) else one for one in schema])


def _interval_texts(batch: RecordBatch, schema: Schema) -> RecordBatch:
    import pyarrow as pa

    columns = [exact_text(one) if pa.types.is_interval(one.type) else one for one in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
