"""Digests of rows in Spark, equal to those of `k2.schemas.digests` and without Python in the executors.

A hash is summed in limbs of 32 bits, each a 64-bit number that holds two billion rows; the driver carries them.
Expressions are SQL texts: built from columns, each of their hundreds of parts would be a call into the JVM.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DateType,
    DecimalType,
    IntegralType,
    MapType,
    StringType,
    StructType,
    TimestampType,
)

from k2.schemas.channels import Channel
from k2.schemas.digests import BITS, Digest

_LIMB_BITS: Final = 32
_LIMBS: Final = BITS // _LIMB_BITS
_LIMB_DIGITS: Final = _LIMB_BITS // 4


def row_hash(frame: DataFrame, domain: str, columns: Iterable[str]) -> Column:
    """Return the hash of a frame's rows, from some of its columns in this order, as hexadecimal digits.

    Raises TypeError for a column of a type that has no canonical bytes.
    """
    types = {column.name: column.dataType for column in frame.schema.fields}
    fields = (_field(name, types[name]) for name in columns)
    parts = ", ".join([_binary(domain + "\n"), *fields])
    return F.expr(f"sha2(concat({parts}), {BITS})")


def _field(name: str, kind: DataType) -> str:
    value = _quoted(name)
    content = value if isinstance(kind, BinaryType) else f"CAST({_text(name, kind, value)} AS BINARY)"
    length = f"CAST(concat(CAST(octet_length({content}) AS STRING), ':') AS BINARY)"
    return f"coalesce(concat({_binary(f'{name}=')}, {length}, {content}), X'')"


def _text(name: str, kind: DataType, value: str, depth: int = 0) -> str:
    """Return an expression for the canonical bytes of a value as a text; `depth` is that of the value in a column."""
    match kind:
        case StringType() | IntegralType():
            return f"CAST({value} AS STRING)"
        case DecimalType():
            # In ANSI mode, Spark's default, the text of a decimal has no exponent.
            text = f"CAST({value} AS STRING)"
            return f"trim(TRAILING '.' FROM trim(TRAILING '0' FROM {text}))" if kind.scale else text
        case TimestampType():
            return f"CAST(unix_micros({value}) AS STRING)"
        case DateType():
            return f"CAST(unix_date({value}) AS STRING)"
        case _:
            return _nested(name, kind, value, depth + 1)


def _nested(name: str, kind: DataType, value: str, depth: int) -> str:
    one = f"element_{depth}"
    match kind:
        case ArrayType():
            return f"array_join(transform({value}, {one} -> {_sized(name, kind.elementType, one, depth)}), '')"
        case MapType(keyType=StringType()):
            key = _sized(name, StringType(), f"{one}.key", depth)
            content = _sized(name, kind.valueType, f"{one}.value", depth)
            return f"array_join(transform(array_sort(map_entries({value})), {one} -> concat({key}, {content})), '')"
        case StructType():
            fields = sorted(kind.fields, key=lambda field: field.name.encode())
            texts = (
                f"{_literal(f'{len(field.name.encode())}:{field.name}')}, "
                f"{_sized(name, field.dataType, f'{value}.{_quoted(field.name)}', depth)}"
                for field in fields
            )
            return f"CASE WHEN {value} IS NOT NULL THEN concat({', '.join(texts)}) END"
    raise TypeError(f"column {name} has no canonical bytes: {kind.simpleString()}")


def _sized(name: str, kind: DataType, value: str, depth: int) -> str:
    text = _text(name, kind, value, depth)
    return f"coalesce(concat(CAST(octet_length({text}) AS STRING), ':', {text}), '-')"


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _binary(text: str) -> str:
    return f"X'{text.encode().hex()}'"


def _literal(text: str) -> str:
    return f"CAST({_binary(text)} AS STRING)"


def sums(column: str, prefix: str) -> list[Column]:
    """Return the aggregates of a digest: the number of rows and the sums of the limbs, of rows with a hash only.

    `column` holds the hashes, as `row_hash` makes them.
    """
    limbs = (f"substring({column}, {1 + index * _LIMB_DIGITS}, {_LIMB_DIGITS})" for index in range(_LIMBS))
    return [
        F.expr(f"count({column}) AS {prefix}_rows"),
        *(F.expr(f"sum(CAST(conv({limb}, 16, 10) AS BIGINT)) AS {prefix}_{index}") for index, limb in enumerate(limbs)),
    ]


def with_maps(gold: DataFrame, channel: Channel) -> DataFrame:
    """Return rows of Gold with maps instead of their JSON texts, as Silver has them."""
    types = {column.name: column.type for column in channel.columns}
    return gold.withColumns({name: F.from_json(name, types[name]) for name in sorted(channel.map_columns)})


def from_sums(row: Mapping[str, Any], prefix: str) -> Digest:
    """Return the digest in a collected row of the aggregates that `sums` returned."""
    limbs = (row[f"{prefix}_{index}"] or 0 for index in range(_LIMBS))
    total = reduce(lambda high, limb: (high << _LIMB_BITS) + limb, limbs, 0)
    return Digest(0, total) + Digest(row[f"{prefix}_rows"], 0)


def digest(rows: DataFrame, domain: str, columns: Iterable[str]) -> Digest:
    """Return the digest of all rows of a frame, over some of its columns."""
    hashed = rows.select(row_hash(rows, domain, columns).alias("row_hash"))
    return from_sums(hashed.agg(*sums("row_hash", "digest")).collect()[0].asDict(), "digest")
