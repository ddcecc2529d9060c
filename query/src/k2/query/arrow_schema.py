"""Arrow schema of a channel's records, derived from the spec of its Gold table, and arrays of their values."""

from __future__ import annotations

from functools import cache
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

from k2.query import ddl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyarrow import Array, DataType, Schema

    from k2.schemas.channels import Channel


@cache
def records(channel: Channel) -> Schema:
    """Return the Arrow schema of the channel's columns in Gold."""
    import pyarrow as pa

    types = {column.name: column.type for column in channel.gold.columns}
    return pa.schema([(name, arrow_type(types[name])) for name in channel.column_names])


def arrow_type(text: str) -> DataType:
    """Return the Arrow type of a Spark DDL type. Raises `ValueError` for a type that no table uses."""
    import pyarrow as pa

    text = text.strip()
    outer, _, rest = text.partition("<")
    inner = rest.removesuffix(">")
    match outer:
        case "array":
            return pa.list_(arrow_type(inner))
        case "map":
            return pa.map_(*map(arrow_type, ddl.split(inner)))
        case "struct":
            fields = [part.partition(":") for part in ddl.split(inner)]
            return pa.struct([(name.strip(), arrow_type(kind)) for name, _, kind in fields])
    if match := ddl.DECIMAL.fullmatch(text):
        return pa.decimal128(int(match[1]), int(match[2]))
    primitives = {
        "string": pa.string(),
        "binary": pa.binary(),
        "boolean": pa.bool_(),
        "int": pa.int32(),
        "bigint": pa.int64(),
        "double": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    if text not in primitives:
        raise ValueError(f"{text!r} is not a column type of K2's tables")
    return primitives[text]


def array(values: Sequence[Any], kind: DataType) -> Array:
    """Return values of validated rows as an array: decimals come as units, times as UTC microseconds, dates as days."""
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        units = b"".join((value or 0).to_bytes(16, "little", signed=True) for value in values)
        return pa.Array.from_buffers(kind, len(values), [_validity(values), pa.py_buffer(units)])
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).view(kind)
    if pa.types.is_date32(kind):
        return pa.array(values, pa.int32()).view(kind)
    if pa.types.is_nested(kind):
        return _nested_array(values, kind)
    return pa.array(values, kind)


def _nested_array(values: Sequence[Any], kind: Any) -> Array:
    """Return lists, dictionaries of a struct's fields, or maps as an array, with the values in them as `array` does."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        columns = [array([value and value[field.name] for value in values], field.type) for field in kind]
        return pa.StructArray.from_arrays(columns, fields=list(kind), mask=_nulls(values))
    if pa.types.is_map(kind):
        keys = array(_flatten(value and value.keys() for value in values), kind.key_type)
        items = array(_flatten(value and value.values() for value in values), kind.item_type)
        return pa.MapArray.from_arrays(_offsets(values), keys, items, type=kind, mask=_nulls(values))
    items = array(_flatten(values), kind.value_type)
    return pa.ListArray.from_arrays(_offsets(values), items, type=kind, mask=_nulls(values))


def _flatten(values: Iterable[Any]) -> list[Any]:
    return list(chain.from_iterable(value or () for value in values))


def _offsets(values: Sequence[Any]) -> Array:
    import pyarrow as pa

    return pa.array(accumulate((len(value or ()) for value in values), initial=0), pa.int32())


def _nulls(values: Sequence[Any]) -> Array | None:
    import pyarrow as pa

    return pa.array([value is None for value in values], pa.bool_()) if None in values else None


def _validity(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.array([value is not None for value in values], pa.bool_()).buffers()[1] if None in values else None
