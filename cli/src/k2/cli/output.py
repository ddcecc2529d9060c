"""Write query results to standard output or a file, batch by batch: a large result is never in memory as a whole.

Decimals are exact in every format, and texts have them without trailing zeros: strings in JSON, plain digits in CSV and
tables. Times are RFC 3339 in UTC. `json` is JSON lines, one object per row. Binary formats (`parquet`, `arrow`) are
never written to a terminal.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from k2.query.errors import BadQuery
from k2.query.execution import parquet
from k2.query.execution.json_values import representable, to_json_value

if TYPE_CHECKING:
    from pyarrow import RecordBatchReader

_COLUMN_SEPARATOR: Final = "  "


class Format(StrEnum):
    """The format of the output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


_BINARY: Final = frozenset({Format.PARQUET, Format.ARROW})


def write(reader: "RecordBatchReader", form: Format, output: Path | None) -> int:
    """Write all rows to a file or to standard output, and return their number.

    A file is written atomically. Raises `BadQuery` if it cannot be written, or for bytes to a terminal.
    """
    with _sink(form, output) as sink:
        return _WRITERS[form](reader, sink)


@contextmanager
def _sink(form: Format, output: Path | None) -> Iterator[IO[bytes]]:
    try:
        if output is None:
            if form in _BINARY and sys.stdout.isatty():
                raise BadQuery(f"{form} is binary; use --output FILE or a pipe")
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif output.exists() and not output.is_file():  # write to a device or named pipe, never replace it
            with output.open("wb") as sink:
                yield sink
        else:
            with _atomic(output) as sink:
                yield sink
    except OSError as error:
        if output is None:
            raise  # `k2.cli.main` reports it
        raise BadQuery(f"{output} cannot be written: {error.strerror or error}; choose another --output") from error


@contextmanager
def _atomic(output: Path) -> Iterator[IO[bytes]]:
    output = output.resolve()  # replace the target of a link, not the link
    temporary = output.parent / f".{output.name}.{os.getpid()}"
    try:
        with temporary.open("wb") as sink:
            yield sink
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


def _rows(reader: "RecordBatchReader") -> Iterator[list[list[Any]]]:
    """Yield each batch as rows of values. Columns may share a name, so rows are not mappings."""
    for batch in reader:
        columns = []
        for column in batch.columns:
            with representable(column.type):
                columns.append([to_json_value(value) for value in _values(column)])
        yield [list(row) for row in zip(*columns, strict=True)]


def _values(column: Any) -> list[Any]:
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    if pa.types.is_map(column.type):
        return [dict(value) if value is not None else None for value in values]
    return values


def _json(reader: "RecordBatchReader", sink: IO[bytes]) -> int:
    names, count = reader.schema.names, 0
    if len(set(names)) < len(names):
        raise BadQuery("two columns have the same name, which JSON cannot represent; rename one with AS")
    for rows in _rows(reader):
        lines = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows]
        sink.write("".join(f"{line}\n" for line in lines).encode())
        count += len(rows)
    return count


def _csv(reader: "RecordBatchReader", sink: IO[bytes]) -> int:
    count = 0
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(reader.schema.names)
    sink.write(text.getvalue().encode())
    for rows in _rows(reader):
        text.seek(0)
        text.truncate()
        writer.writerows([[_cell(value) for value in row] for row in rows])
        sink.write(text.getvalue().encode())
        count += len(rows)
    return count


def _table(reader: "RecordBatchReader", sink: IO[bytes]) -> int:
    """Write aligned columns, as wide as the first batch needs."""
    import pyarrow as pa

    right = [
        pa.types.is_integer(f.type) or pa.types.is_floating(f.type) or pa.types.is_decimal(f.type)
        for f in reader.schema
    ]
    header, count = [str(name).upper() for name in reader.schema.names], 0
    widths: list[int] = []
    for rows in _rows(reader):
        lines = [[_line(_cell(value)) for value in row] for row in rows]
        if not widths:
            widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
            sink.write(_aligned(header, widths, right))
        sink.write(b"".join(_aligned(line, widths, right) for line in lines))
        count += len(rows)
    if not widths:
        sink.write(_aligned(header, [len(name) for name in header], right))
    return count


def _aligned(cells: list[str], widths: list[int], right: list[bool]) -> bytes:
    padded = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return f"{_COLUMN_SEPARATOR.join(padded).rstrip()}\n".encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _line(cell: str) -> str:
    """Replace control characters, which could move the cursor of a terminal."""
    return cell if cell.isprintable() else "".join(char if char.isprintable() else "?" for char in cell)


def _parquet(reader: "RecordBatchReader", sink: IO[bytes]) -> int:
    return sum(parquet.write(reader, sink, "give --format arrow"))


def _arrow(reader: "RecordBatchReader", sink: IO[bytes]) -> int:
    import pyarrow as pa

    count = 0
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


_WRITERS: Final[dict[Format, Callable[["RecordBatchReader", IO[bytes]], int]]] = {
    Format.TABLE: _table,
    Format.JSON: _json,
    Format.CSV: _csv,
    Format.PARQUET: _parquet,
    Format.ARROW: _arrow,
}
