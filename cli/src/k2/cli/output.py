"""Write query results to standard output or a file, batch by batch: a large result is never in memory as a whole.

Decimals are exact in every format, and texts have them without trailing zeros: strings in JSON, plain digits in CSV and
tables. Times are RFC 3339: in UTC with a Z, or without a zone where they have none. `json` is JSON lines, one object
per row. Binary formats (`parquet`, `arrow`) are never written to a terminal.
"""

import csv
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from k2.query.errors import BadQuery
from k2.query.execution import parquet, row_encoding
from k2.query.execution.json_values import representable

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
    with opened(form, output) as sink:
        return write_rows(reader, form, sink)


def write_rows(reader: "RecordBatchReader", form: Format, sink: IO[bytes]) -> int:
    """Write all rows to an open file, and return their number."""
    return _WRITERS[form](reader, sink)


@contextmanager
def opened(form: Format, output: Path | None) -> Iterator[IO[bytes]]:
    """Open a file, which appears once it is complete, or standard output. Raises `BadQuery` as `write` does."""
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
                columns.append(row_encoding.values(column))
        yield [list(row) for row in zip(*columns, strict=True)]


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
    csv.writer(text, lineterminator="\n").writerow(reader.schema.names)
    sink.write(text.getvalue().encode())
    for batch in reader:
        sink.write(row_encoding.csv_rows(batch))
        count += batch.num_rows
    return count


def _table(reader: "RecordBatchReader", sink: IO[bytes]) -> int:
    """Write aligned columns, as wide as the first batch needs. A cell of several lines, as of EXPLAIN, has several."""
    import pyarrow as pa

    right = [
        pa.types.is_integer(f.type) or pa.types.is_floating(f.type) or pa.types.is_decimal(f.type)
        for f in reader.schema
    ]
    header, count = [_printable(str(name).upper()) for name in reader.schema.names], 0
    widths: list[int] = []
    for batch in reader:
        rows = list(zip(*map(_cells, batch.columns), strict=True))
        if not widths:
            cells = zip(header, *rows, strict=True)
            widths = [max(_width(line) for cell in column for line in cell.split("\n")) for column in cells]
            sink.write(_aligned(header, widths, right))
        sink.write(b"".join(_aligned(row, widths, right) for row in rows))
        count += len(rows)
    if not widths:
        sink.write(_aligned(header, [len(name) for name in header], right))
    return count


def _cells(column: Any) -> list[str]:
    with representable(column.type):
        return [_printable(cell) for cell in row_encoding.cells(column)]


def _aligned(cells: Sequence[str], widths: list[int], right: list[bool]) -> bytes:
    lines = zip_longest(*(cell.split("\n") for cell in cells), fillvalue="")
    return b"".join(_aligned_line(line, widths, right) for line in lines)


def _aligned_line(cells: Sequence[str], widths: list[int], right: list[bool]) -> bytes:
    padded = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        space = " " * (width - _width(cell))
        padded.append(f"{space}{cell}" if to_right else f"{cell}{space}")
    return f"{_COLUMN_SEPARATOR.join(padded).rstrip()}\n".encode()


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum((unicodedata.east_asian_width(char) in "WF") + (not unicodedata.combining(char)) for char in text)


def _printable(cell: str) -> str:
    """Replace control characters, which could move the cursor of a terminal, but for the ends of lines."""
    if cell.isprintable():
        return cell
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in cell)


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
