"""Encode query results as bytes, batch by batch: a large result is never in memory as a whole.

Decimals are exact in every format: strings in JSON, plain digits in CSV, without trailing zeros in both.
Times are RFC 3339 in UTC.
"""

import csv
import io
import zlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic_core import PydanticCustomError

from k2.query.api.errors import NOT_ACCEPTABLE
from k2.query.errors import BadQuery
from k2.query.execution import parquet
from k2.query.execution.row_encoding import csv_rows, json_rows

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch, RecordBatchReader

_ROWS_PER_CHUNK: Final = 10_000  # of text formats
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # continuation marker and length 0, by Arrow's IPC format

Chunk = bytes | memoryview


class MediaType(StrEnum):
    """The formats of a result, by media type."""

    JSON = "application/json"
    CSV = "text/csv"
    PARQUET = "application/vnd.apache.parquet"
    ARROW = "application/vnd.apache.arrow.stream"

    @property
    def is_text(self) -> bool:
        """Whether gzip is worth its cost."""
        return self in {MediaType.JSON, MediaType.CSV}


def negotiate(accept: str | None) -> MediaType:
    """Return the client's preferred format; JSON if it has no preference. Raises `PydanticCustomError`."""
    best, choice = 0.0, None
    for media in MediaType:
        if (quality := _quality_of(accept or "*/*", media)) > best:
            best, choice = quality, media
    if choice is None:
        raise PydanticCustomError(NOT_ACCEPTABLE, f"no such format; accept one of {', '.join(MediaType)}")
    return choice


def _quality_of(accept: str, media: MediaType) -> float:
    """Return the quality value, 0 to 1. An entry for the exact type takes precedence over a wildcard."""
    qualities: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        qualities[name] = next((_parse_quality(word[2:]) for word in parameters if word.startswith("q=")), 1.0)
    kind = media.partition("/")[0]
    return next((qualities[name] for name in (media.value, f"{kind}/*", "*/*") if name in qualities), 0.0)


def _parse_quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether the client accepts gzip."""
    words = [part.strip().lower().replace(" ", "") for part in (accept_encoding or "").split(",")]
    return any(word.partition(";")[0] in {"gzip", "*"} and not word.endswith((";q=0", ";q=0.0")) for word in words)


def gzip_chunks(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Compress the chunks, flushing after each so that a stream is not delayed."""
    compressor = zlib.compressobj(1, wbits=31)
    for chunk in chunks:
        if ready := compressor.compress(chunk) + compressor.flush(zlib.Z_SYNC_FLUSH):
            yield ready
    yield compressor.flush()


def encode(reader: "RecordBatchReader", media: MediaType, envelope: Callable[[int], dict[str, Any]]) -> Iterator[Chunk]:
    """Encode rows in a format. JSON is an object: `data`, then the fields that `envelope` returns for the row count."""
    return _json(reader, envelope) if media is MediaType.JSON else _ENCODERS[media](reader)


def _json(reader: "RecordBatchReader", envelope: Callable[[int], dict[str, Any]]) -> Iterator[Chunk]:
    names = reader.schema.names
    if len(set(names)) < len(names):
        raise BadQuery("two columns have the same name, which JSON cannot represent; rename one with AS")
    count, before = 0, b'{"data":['
    for batch in _slices(reader):
        yield before + json_rows(batch)
        count, before = count + batch.num_rows, b","
    rest = msgspec.json.encode(envelope(count))
    yield (b"]" if count else before + b"]") + (b"," + rest[1:] if len(rest) > 2 else b"}")


def _csv(reader: "RecordBatchReader") -> Iterator[Chunk]:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow(reader.schema.names)
    yield sink.getvalue().encode()
    for batch in _slices(reader):
        yield csv_rows(batch)


def _arrow(reader: "RecordBatchReader") -> Iterator[Chunk]:
    """Yield the messages of the stream: through a file object every batch would be copied three times."""
    if any(map(_has_dictionary, reader.schema.types)):
        yield from _arrow_with_dictionaries(reader)
        return
    yield reader.schema.serialize().to_pybytes()
    for batch in reader:
        yield memoryview(batch.serialize())
    yield _END_OF_STREAM


def _arrow_with_dictionaries(reader: "RecordBatchReader") -> Iterator[Chunk]:
    """Yield the messages of a stream with dictionary batches, as for SQL's ENUM."""
    import pyarrow as pa

    sink = _Sink()
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield sink.take()
    yield sink.take()


def _has_dictionary(kind: "DataType") -> bool:
    import pyarrow as pa

    children = (kind.field(place).type for place in range(kind.num_fields))
    return pa.types.is_dictionary(kind) or any(map(_has_dictionary, children))


def _parquet(reader: "RecordBatchReader") -> Iterator[Chunk]:
    sink = _Sink()
    for _ in parquet.write(reader, sink, f"accept {MediaType.ARROW}"):
        yield sink.take()
    yield sink.take()


_ENCODERS: Final[dict[MediaType, Callable[["RecordBatchReader"], Iterator[Chunk]]]] = {
    MediaType.CSV: _csv,
    MediaType.PARQUET: _parquet,
    MediaType.ARROW: _arrow,
}


class _Sink:
    """A writable file whose content is taken out in parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Append bytes."""
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._size

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""

    def close(self) -> None:
        """Do nothing: there is no resource."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return False."""
        return False

    def seekable(self) -> bool:
        """Return False."""
        return False

    def take(self) -> bytes:
        """Return what was written since the last call."""
        content = b"".join(self._parts)
        self._parts = []
        return content


def _slices(reader: "RecordBatchReader") -> "Iterator[RecordBatch]":
    for batch in reader:
        for first in range(0, batch.num_rows, _ROWS_PER_CHUNK):
            yield batch.slice(first, _ROWS_PER_CHUNK)
