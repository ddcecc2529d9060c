"""Answers as bytes, batch by batch. A large answer never lies in memory whole.

Decimals are exact in every format: strings in JSON, plain digits in CSV. Times are RFC 3339 in UTC.
"""

import csv
import io
import zlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from k2.query.api.encoding.row_encoding import csv_rows, json_rows
from k2.query.api.errors import Refused
from k2.query.errors import BadQuery
from k2.query.execution import parquet

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch, RecordBatchReader

_ROWS: Final = 10_000  # of a chunk of text
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # a continuation, and no message: Arrow's IPC format

Chunk = bytes | memoryview


class Media(StrEnum):
    """A format, by its media type."""

    JSON = "application/json"
    CSV = "text/csv"
    PARQUET = "application/vnd.apache.parquet"
    ARROW = "application/vnd.apache.arrow.stream"

    @property
    def text(self) -> bool:
        """Whether it is worth packing."""
        return self in {Media.JSON, Media.CSV}


def wanted(accept: str | None) -> Media:
    """The format that a client likes best; JSON if it does not say. Raises `Refused` if there is no such format."""
    best, found = 0.0, None
    for media in Media:
        if (liked := _liked(accept or "*/*", media)) > best:
            best, found = liked, media
    if found is None:
        raise Refused(406, f"there is no such format; accept one of {', '.join(Media)}")
    return found


def _liked(accept: str, media: Media) -> float:
    """How much, from 0 to 1. What is said of the type itself counts before what is said of all types."""
    told: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        told[name] = next((_quality(word[2:]) for word in parameters if word.startswith("q=")), 1.0)
    kind = media.partition("/")[0]
    return next((told[name] for name in (media.value, f"{kind}/*", "*/*") if name in told), 0.0)


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def packable(accept_encoding: str | None) -> bool:
    """Whether a client takes gzip."""
    words = [part.strip().lower().replace(" ", "") for part in (accept_encoding or "").split(",")]
    return any(word.partition(";")[0] in {"gzip", "*"} and not word.endswith((";q=0", ";q=0.0")) for word in words)


def packed(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same, as gzip."""
    pack = zlib.compressobj(1, wbits=31)
    for chunk in chunks:
        if ready := pack.compress(chunk) + pack.flush(zlib.Z_SYNC_FLUSH):
            yield ready
    yield pack.flush()


def encoded(reader: "RecordBatchReader", media: Media, envelope: Callable[[int], dict[str, Any]]) -> Iterator[Chunk]:
    """The rows in a format. JSON is an object: `data`, and after it what `envelope` has to say of so many rows."""
    return _json(reader, envelope) if media is Media.JSON else _ENCODERS[media](reader)


def _json(reader: "RecordBatchReader", envelope: Callable[[int], dict[str, Any]]) -> Iterator[Chunk]:
    names = reader.schema.names
    if len(set(names)) < len(names):
        raise BadQuery("two columns have one name, which JSON cannot say; rename one with AS")
    count, before = 0, b'{"data":['
    for batch in _pieces(reader):
        yield before + json_rows(batch)
        count, before = count + batch.num_rows, b","
    rest = msgspec.json.encode(envelope(count))
    yield (b"]" if count else before + b"]") + (b"," + rest[1:] if len(rest) > 2 else b"}")


def _csv(reader: "RecordBatchReader") -> Iterator[Chunk]:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow(reader.schema.names)
    yield sink.getvalue().encode()
    for batch in _pieces(reader):
        yield csv_rows(batch)


def _arrow(reader: "RecordBatchReader") -> Iterator[Chunk]:
    """The stream's messages, laid end to end: through a file object every batch would be copied three times."""
    if any(map(_by_dictionary, reader.schema.types)):
        yield from _arrow_by_dictionary(reader)
        return
    yield reader.schema.serialize().to_pybytes()
    for batch in reader:
        yield memoryview(batch.serialize())
    yield _END_OF_STREAM


def _arrow_by_dictionary(reader: "RecordBatchReader") -> Iterator[Chunk]:
    """The same where a batch may need messages of its own before it, as with SQL's ENUM."""
    import pyarrow as pa

    sink = _Sink()
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield sink.taken()
    yield sink.taken()


def _by_dictionary(kind: "DataType") -> bool:
    import pyarrow as pa

    within = (kind.field(place).type for place in range(kind.num_fields))
    return pa.types.is_dictionary(kind) or any(map(_by_dictionary, within))


def _parquet(reader: "RecordBatchReader") -> Iterator[Chunk]:
    sink = _Sink()
    for _ in parquet.written(reader, sink, f"accept {Media.ARROW}"):
        yield sink.taken()
    yield sink.taken()


_ENCODERS: Final[dict[Media, Callable[["RecordBatchReader"], Iterator[Chunk]]]] = {
    Media.CSV: _csv,
    Media.PARQUET: _parquet,
    Media.ARROW: _arrow,
}


class _Sink:
    """A file that gives away what was written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Takes bytes in."""
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        """How much was written in all."""
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held."""

    def writable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Never."""
        return False

    def seekable(self) -> bool:
        """Never."""
        return False

    def taken(self) -> bytes:
        """What was written since the last time."""
        found = b"".join(self._parts)
        self._parts = []
        return found


def _pieces(reader: "RecordBatchReader") -> "Iterator[RecordBatch]":
    for batch in reader:
        for first in range(0, batch.num_rows, _ROWS):
            yield batch.slice(first, _ROWS)
