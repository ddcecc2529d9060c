"""Digests of rows in Spark, equal to those of `k2.schemas.digests` and without Python in the executors.

A hash is summed in limbs of 32 bits, each a 64-bit number that holds two billion rows; the driver carries them.
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
    fields = [_field(name, types[name]) for name in columns]
    return F.sha2(F.concat(F.lit(f"{domain}\n").cast("binary"), *fields), BITS)


def _field(name: str, kind: DataType) -> Column:
    value = F.col(name)
    content = value if isinstance(kind, BinaryType) else _text(name, kind, value).cast("binary")
    head = F.concat(F.lit(f"{name}="), F.octet_length(content).cast("string"), F.lit(":"))
    return F.coalesce(F.concat(head.cast("binary"), content), F.lit(b""))


def _text(name: str, kind: DataType, value: Column) -> Column:
    """Return the canonical bytes of a value as a text."""
    match kind:
        case StringType() | IntegralType():
            return value.cast("string")
        case DecimalType():
            # In ANSI mode, Spark's default, the text of a decimal has no exponent.
            text = value.cast("string")
            return F.rtrim(F.rtrim(text, F.lit("0")), F.lit(".")) if kind.scale else text
        case TimestampType():
            return F.unix_micros(value).cast("string")
        case DateType():
            return F.unix_date(value).cast("string")
        case _:
            return _nested(name, kind, value)


def _nested(name: str, kind: DataType, value: Column) -> Column:
    match kind:
        case ArrayType():
            return F.array_join(F.transform(value, lambda one: _sized(name, kind.elementType, one)), "")
        case MapType(keyType=StringType()):
            entries = F.array_sort(F.map_entries(value))
            return F.array_join(F.transform(entries, lambda one: _entry(name, kind.valueType, one)), "")
        case StructType():
            fields = sorted(kind.fields, key=lambda field: field.name.encode())
            texts = (F.concat(F.lit(_key(one.name)), _sized(name, one.dataType, value[one.name])) for one in fields)
            return F.when(value.isNotNull(), F.concat(*texts))
    raise TypeError(f"column {name} has no canonical bytes: {kind.simpleString()}")


def _key(name: str) -> str:
    return f"{len(name.encode())}:{name}"


def _entry(name: str, kind: DataType, entry: Column) -> Column:
    return F.concat(_sized(name, StringType(), entry["key"]), _sized(name, kind, entry["value"]))


def _sized(name: str, kind: DataType, value: Column) -> Column:
    text = _text(name, kind, value)
    return F.coalesce(F.concat(F.octet_length(text).cast("string"), F.lit(":"), text), F.lit("-"))


def sums(row_hashes: Column, prefix: str, where: Column | None = None) -> list[Column]:
    """Return the aggregates of a digest: the number of rows and the sums of the limbs, of rows with a hash only.

    `where` limits them to some rows of the group.
    """
    counted = row_hashes if where is None else F.when(where, row_hashes)
    limbs = [F.substring(counted, 1 + index * _LIMB_DIGITS, _LIMB_DIGITS) for index in range(_LIMBS)]
    return [
        F.count(counted).alias(f"{prefix}_rows"),
        *(F.sum(F.conv(limb, 16, 10).cast("bigint")).alias(f"{prefix}_{index}") for index, limb in enumerate(limbs)),
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
    return from_sums(hashed.agg(*sums(F.col("row_hash"), "digest")).collect()[0].asDict(), "digest")
