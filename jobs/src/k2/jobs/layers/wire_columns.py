"""Confluent's wire format in Spark columns: what `k2.schemas.codecs.wire` is for single values."""

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.schemas.codecs import wire


def value_header() -> Column:
    """Return the header bytes of the column `value`."""
    return F.substring("value", 1, wire.HEADER_SIZE)


def avro_body() -> Column:
    """Return the Avro body of the column `value`."""
    return F.expr(f"substring(value, {wire.HEADER_SIZE + 1})")


def binary(raw: bytes) -> Column:
    """Return bytes as a literal."""
    return F.expr(f"X'{raw.hex()}'")
