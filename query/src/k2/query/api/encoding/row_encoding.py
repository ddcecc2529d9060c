"""Rows as JSON or CSV, all at once: columns become texts by Arrow's kernels, and no value passes through Python.

For the types that nearly all answers have. Others are told by `values`, one by one; both say the same.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from k2.query.execution.json_values import plain

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatch

_ESCAPED: Final = r"[\x00-\x1f\\]"  # beside the quote, what JSON says in another way
_TO_QUOTE: Final = '[",\n\r]'


def json_rows(batch: "RecordBatch") -> bytes:
    """The rows as JSON objects, comma separated, as they stand within a list. No two columns may share a name."""
    columns = [_json_cells(column) for column in batch.columns]
    names = [msgspec.json.encode(name).decode() for name in batch.schema.names]
    parts: list[Any] = []
    for place, (name, column) in enumerate(zip(names, columns, strict=True)):
        parts += [f"{',' if place else '{'}{name}:", column]
    return _joined([*parts, "},"])[:-1]


def csv_rows(batch: "RecordBatch") -> bytes:
    """The rows as lines of CSV."""
    parts: list[Any] = []
    for place, column in enumerate(batch.columns):
        parts += [*([","] if place else []), _csv_cells(column)]
    return _joined([*parts, "\n"])


def _joined(parts: list[Any]) -> bytes:
    """All cells of all rows, one after another: they lie so in the joined column's memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.large_string()
    told = [pa.scalar(part, kind) if isinstance(part, str) else part for part in parts]
    whole = pc.binary_join_element_wise(*told, pa.scalar("", kind))
    first, last = _ends(whole)
    found: bytes = whole.buffers()[2][first:last].to_pybytes()
    return found


def _ends(texts: "Array") -> tuple[int, int]:
    import struct

    offsets = texts.buffers()[1]
    places = [8 * texts.offset, 8 * (texts.offset + len(texts))]
    first, last = (struct.unpack_from("<q", offsets, place)[0] for place in places)
    return first, last


def _json_cells(column: "Array") -> "Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_string(kind):
        if pc.any(pc.match_substring_regex(column, _ESCAPED)).as_py():
            found = [msgspec.json.encode(value).decode() for value in column.to_pylist()]
            return pa.array(found, pa.large_string())
        return _quoted(pc.replace_substring(column, '"', '\\"'))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(column.cast(pa.large_string()), "null")
    if (texts := exact(column)) is not None:
        return _quoted(texts)
    return pa.array([msgspec.json.encode(value).decode() for value in values(column)], pa.large_string())


def _quoted(texts: "Array") -> "Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    mark, nothing = pa.scalar('"', pa.large_string()), pa.scalar("", pa.large_string())
    return pc.fill_null(pc.binary_join_element_wise(mark, texts.cast(pa.large_string()), mark, nothing), "null")


def _csv_cells(column: "Array") -> "Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_string(kind):
        texts = column.cast(pa.large_string())
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(column.cast(pa.large_string()), "")
    elif (found := exact(column)) is not None:
        return pc.fill_null(found.cast(pa.large_string()), "")
    else:
        texts = pa.array([_cell(value) for value in values(column)], pa.large_string())
    mark, nothing = pa.scalar('"', pa.large_string()), pa.scalar("", pa.large_string())
    quoted = pc.binary_join_element_wise(mark, pc.replace_substring(texts, '"', '""'), mark, nothing)
    return pc.fill_null(pc.if_else(pc.match_substring_regex(texts, _TO_QUOTE), quoted, texts), "")


def _cell(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return msgspec.json.encode(value).decode()
    return str(value)


def exact(column: "Array") -> "Array | None":
    """Decimals and times as text; None for other types."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_timestamp(column.type) and column.type.tz == "UTC" and column.type.unit == "us":
        return pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")
    if pa.types.is_decimal(column.type):
        found = column.cast(pa.string())
        if pc.any(pc.match_substring(found, "E")).as_py():  # small ones are told with an exponent
            return pa.array([plain(value) for value in column.to_pylist()], pa.string())
        return found
    return None


def values(column: "Array") -> list[Any]:
    """A column as JSON can say it without losing any of it."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_floating(kind):
        return [plain(value) for value in column.to_pylist()]
    if (texts := exact(column)) is not None:
        found: list[Any] = texts.to_pylist()
        return found
    if pa.types.is_map(kind):
        return [plain(dict(value)) if value is not None else None for value in column.to_pylist()]
    return [plain(value) for value in column.to_pylist()]
