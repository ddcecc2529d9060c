"""Valid records as tuples: one named tuple type per channel, and the conversion of decoded Avro into it.

Times become UTC microseconds, decimals whole units of their last place, and maps the JSON text that Spark writes;
everything else stays plain Python. Decoding follows Spark's: a test compares the results with Silver's.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from functools import cache, lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from k2.schemas.channels import Channel

Row = tuple[Any, ...]  # of `row_type`
Convert = Callable[[Any], Any]

_LONG_DIGITS: Final = 18  # Spark reads decimals of up to 18 digits as longs
# Spark's JSON strings: only what must be escaped is, with upper-case hexadecimal digits.
_ESCAPES: Final = str.maketrans(
    {chr(code): f"\\u{code:04X}" for code in range(32)}
    | {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
)


@cache
def row_type(channel: Channel) -> Any:
    """Return the named tuple type of the channel's valid records; its fields are the channel's columns."""
    return namedtuple(f"{channel.name.title()}Row", channel.column_names)  # noqa: PYI024 - the columns are data


@cache
def identity_of(channel: Channel) -> Callable[[Row], Any]:
    """Return the function that gives a row's identity, a hashable value."""
    return itemgetter(*map(channel.column_names.index, channel.identity))


def time_of(channel: Channel) -> Callable[[Row], int]:
    """Return the function that gives a row's time, in UTC microseconds."""
    first, *others = map(channel.column_names.index, channel.time_columns)
    if not others:
        return itemgetter(first)
    return lambda row: next(row[place] for place in (first, *others) if row[place] is not None)


@cache
def converters(channel: Channel) -> tuple[tuple[str, Convert], ...]:
    """Return the columns whose decoded values are not stored as they are, with their conversions.

    The conversions expect values that were decoded without logical types. They raise ValueError for a value that the
    column cannot hold.
    """
    fields = {field["name"]: field["type"] for field in channel.reader_schema["fields"]}
    named: dict[str, Convert | None] = {}
    pairs = ((name, _converter(fields[name], named)) for name in channel.column_names)
    return tuple((name, convert) for name, convert in pairs if convert is not None)


def _converter(avro_type: Any, named: dict[str, Convert | None]) -> Convert | None:  # noqa: PLR0911 - one a type
    """Return the conversion of an Avro type; None if values are stored as decoded. `named` caches named types."""
    if isinstance(avro_type, list):
        return _union_converter(avro_type, named)
    if isinstance(avro_type, str):
        return named.get(avro_type)
    match avro_type:
        case {"logicalType": "decimal", "precision": precision}:
            return _decimal_converter(precision)
        case {"logicalType": "timestamp-millis"}:
            return _millis_to_micros
        case {"type": "map", "values": "string" | {"type": "string"}}:
            return lambda values: _json(tuple(values.items()))
        case {"type": "map"}:
            raise TypeError("a map of a record must have texts as values, since Gold stores it as a JSON text")
        case {"type": "array", "items": items}:
            return _array_converter(_converter(items, named))
        case {"type": "record", "name": name, "fields": fields}:
            named[name] = convert = _record_converter(fields, named)
            return convert
        case {"type": inner} if isinstance(inner, dict | list):
            return _converter(inner, named)
    return None


def _array_converter(convert: Convert | None) -> Convert | None:
    return None if convert is None else lambda values: [convert(value) for value in values]


def _union_converter(branches: list[Any], named: dict[str, Convert | None]) -> Convert | None:
    conversions = [_converter(branch, named) for branch in branches if branch != "null"]
    if not any(conversions):
        return None
    if len(conversions) > 1:
        raise TypeError("a union of several types with a decimal, time or map among them cannot be stored")
    (convert,) = conversions
    assert convert is not None
    return lambda value: None if value is None else convert(value)


def _record_converter(fields: list[dict[str, Any]], named: dict[str, Convert | None]) -> Convert | None:
    conversions = {field["name"]: convert for field in fields if (convert := _converter(field["type"], named))}
    if not conversions:
        return None
    return lambda record: record | {name: convert(record[name]) for name, convert in conversions.items()}


def _millis_to_micros(millis: int) -> int:
    return 1000 * millis


@cache
def _decimal_converter(precision: int) -> Convert:
    """Return the conversion of a decimal's bytes to its units, as Spark reads them.

    Of decimals of up to 18 digits that are longer than a long, Spark reads the lowest 64 bits.
    """
    first, end = (-8 if precision <= _LONG_DIGITS else 0), 10**precision

    def units(raw: bytes) -> int:
        if not raw:
            raise ValueError("decimal without digits")
        number = int.from_bytes(raw[first:], "big", signed=True)
        if abs(number) >= end:
            raise ValueError(f"decimal exceeds {precision} digits")
        return number

    return units


@lru_cache(maxsize=4096)
def _json(pairs: tuple[tuple[str, str], ...]) -> str:
    values = dict(pairs)
    members = (f'"{key.translate(_ESCAPES)}":"{values[key].translate(_ESCAPES)}"' for key in _ordered(tuple(values)))
    return "{" + ",".join(members) + "}"


@lru_cache(maxsize=1024)
def _ordered(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return keys in the order of Java's HashMap, in which Spark reads a map."""
    size = 16
    while len(keys) > size * 3 // 4:
        size *= 2
    return tuple(sorted(keys, key=lambda key: _bucket(key.encode(), size)))


def _bucket(key: bytes, size: int) -> int:
    number = 1
    for byte in key:
        number = (number * 31 + (byte if byte < 128 else byte - 256)) & 0xFFFFFFFF
    return (number ^ number >> 16) & (size - 1)
