"""Rows as a Parquet file, a row group at a time, for the command line and for the API."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from k2.query.errors import BadQuery

if TYPE_CHECKING:
    from pyarrow import RecordBatch, RecordBatchReader

_ROW_GROUP: Final = 100_000  # rows, or a batch more


def written(reader: "RecordBatchReader", sink: Any, instead: str) -> Iterator[int]:
    """Writes all rows, and gives the number of each group's when that is written; at the end the file is whole.

    Raises `BadQuery` for a column that Parquet has no type for, which tells what to do `instead`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        writer = pq.ParquetWriter(sink, reader.schema, compression="zstd", compression_level=1)
    except pa.ArrowNotImplementedError as error:
        raise BadQuery(f"parquet cannot hold a column: {error}; cast it, or {instead}") from error
    with writer:
        held: list[RecordBatch] = []
        for batch in reader:
            held.append(batch)
            if sum(one.num_rows for one in held) >= _ROW_GROUP:
                yield _group(writer, held)
                held = []
        if held:
            yield _group(writer, held)


def _group(writer: Any, batches: "list[RecordBatch]") -> int:
    import pyarrow as pa

    table = pa.Table.from_batches(batches)
    writer.write_table(table)
    return int(table.num_rows)
