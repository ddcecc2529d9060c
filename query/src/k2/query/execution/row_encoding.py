"""Encode record batches as JSON or CSV with Arrow's kernels; no value passes through Python.

This covers the types of nearly all results. `values` encodes the others one by one, with the same output.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from k2.query.execution import value_text
from k2.query.execution.json_values import representable, to_json_value

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatch

_ESCAPED: Final = r"[\x00-\x1f\\]"  # what JSON must escape, apart from the quote
_TO_QUOTE: Final = '[",\n\r]'


def json_rows(batch: "RecordBatch") -> bytes:
    """Encode rows as comma-separated JSON objects, without the list's brackets. Column names must be unique."""
    columns = [_json_cells(column) for column in batch.columns]
    names = [msgspec.json.encode(name).decode() for name in batch.schema.names]
    parts: list[Any] = []
    for place, (name, column) in enumerate(zip(names, columns, strict=True)):
        parts += [f"{',' if place else '{'}{name}:", column]
    return _concatenate([*parts, "},"])[:-1]


def csv_rows(batch: "RecordBatch") -> bytes:
    """Encode rows as lines of CSV."""
    parts: list[Any] = []
    for place, column in enumerate(batch.columns):
        parts += [*([","] if place else []), _csv_cells(column)]
    return _concatenate([*parts, "\n"])


def _concatenate(parts: list[Any]) -> bytes:
    """Concatenate all cells of all rows: the data buffer of the joined column is exactly that."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.large_string()
    columns = [pa.scalar(part, kind) if isinstance(part, str) else part for part in parts]
    joined = pc.binary_join_element_wise(*columns, pa.scalar("", kind))
    first, last = _data_bounds(joined)
    content: bytes = joined.buffers()[2][first:last].to_pybytes()
    return content


def _data_bounds(texts: "Array") -> tuple[int, int]:
    import struct

    offsets = texts.buffers()[1]
    places = [8 * texts.offset, 8 * (texts.offset + len(texts))]
    first, last = (struct.unpack_from("<q", offsets, place)[0] for place in places)
    return first, last


def _json_cells(column: "Array") -> "Array":
    with representable(column.type):
        return _json_texts(column)


def _json_texts(column: "Array") -> "Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_string(kind):
        if pc.any(pc.match_substring_regex(column, _ESCAPED)).as_py():
            escaped = [msgspec.json.encode(value).decode() for value in column.to_pylist()]
            return pa.array(escaped, pa.large_string())
        return _quoted(pc.replace_substring(column, '"', '\\"'))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(column.cast(pa.large_string()), "null")
    if (texts := exact_text(column)) is not None:
        return _quoted(texts)
    return pa.array([msgspec.json.encode(value).decode() for value in values(column)], pa.large_string())


def _quoted(texts: "Array") -> "Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    quote, nothing = pa.scalar('"', pa.large_string()), pa.scalar("", pa.large_string())
    return pc.fill_null(pc.binary_join_element_wise(quote, texts.cast(pa.large_string()), quote, nothing), "null")


def _csv_cells(column: "Array") -> "Array":
    with representable(column.type):
        return _csv_texts(column)


def _csv_texts(column: "Array") -> "Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_string(kind):
        texts = column.cast(pa.large_string())
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return pc.fill_null(column.cast(pa.large_string()), "")
    elif (exact := exact_text(column)) is not None:
        return pc.fill_null(exact.cast(pa.large_string()), "")
    else:
        texts = pa.array(cells(column), pa.large_string())
    quote, nothing = pa.scalar('"', pa.large_string()), pa.scalar("", pa.large_string())
    quoted = pc.binary_join_element_wise(quote, pc.replace_substring(texts, '"', '""'), quote, nothing)
    return pc.fill_null(pc.if_else(pc.match_substring_regex(texts, _TO_QUOTE), quoted, texts), "")


def cells(column: "Array") -> list[str]:
    """Return a column as texts of CSV and of tables: empty for null; NaN and the infinities as DuckDB writes them."""
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        return ["" if value is None else str(value) for value in _shortest(column)]
    return [_cell(value) for value in values(column)]


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return msgspec.json.encode(value).decode()
    return str(value)


def exact_text(column: "Array") -> "Array | None":
    """Return decimals, times and intervals as exact text; None for other types."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return value_text.timestamps(column)
    if pa.types.is_date32(column.type):
        return value_text.dates(column)
    if pa.types.is_interval(column.type):
        texts = [value_text.interval(value) if value is not None else None for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    return _decimal_text(column) if pa.types.is_decimal(column.type) else None


def _decimal_text(column: "Array") -> "Array":
    """Return decimals without trailing zeros and without an exponent, which Arrow writes for the smallest ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = column.cast(pa.string())
    with_exponent = pc.fill_null(pc.match_substring(texts, "E"), fill_value=False)
    if column.type.scale > 0:
        texts = pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")
    if not pc.any(with_exponent).as_py():
        return texts
    plain = [to_json_value(value) for value in column.filter(with_exponent).to_pylist()]
    return pc.replace_with_mask(texts, with_exponent, pa.array(plain, pa.string()))


def values(column: "Array") -> list[Any]:
    """Return a column as JSON-compatible Python values, without loss."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_floating(kind):
        return [to_json_value(value) for value in _shortest(column)]
    if (texts := exact_text(column)) is not None:
        exact: list[Any] = texts.to_pylist()
        return exact
    if pa.types.is_map(kind):
        return [to_json_value(dict(value)) if value is not None else None for value in column.to_pylist()]
    return [to_json_value(value) for value in column.to_pylist()]


def _shortest(column: "Array") -> list[float | None]:
    """Return floats whose text is the shortest one that stands for them: 0.1 also in single precision."""
    import pyarrow as pa

    if pa.types.is_float64(column.type):
        return column.to_pylist()  # type: ignore[no-any-return]
    return [None if text is None else float(text) for text in column.cast(pa.string()).to_pylist()]
