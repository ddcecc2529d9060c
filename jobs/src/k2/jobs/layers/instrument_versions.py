"""Versions of instruments: from the records of the topic to the intervals in which each is valid.

DataFrames in, DataFrames out. The result depends only on the set of versions, however often and in whatever order they
come: equal ones are one, and the times of the others order them.
"""

from collections.abc import Mapping
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom
from pyspark.sql.avro.functions import from_avro

from k2.jobs.layers.wire_columns import avro_body, binary, value_header
from k2.schemas.codecs import avro, wire
from k2.schemas.records.instrument import AVRO, InstrumentStatus
from k2.schemas.tables import INSTRUMENTS_TABLE
from k2.schemas.tables.instruments import DEFINITION

_KEY: Final = ("exchange", "raw_symbol")
_RECORD: Final = "record"
_NOT_IN_RECORDS: Final = frozenset({"settle_asset", "contract_size", "expiry"})  # of spot instruments
_CONTENT: Final = (*(column.name for column in DEFINITION), "definition")


def decoded(records: DataFrame, schemas: Mapping[int, str]) -> DataFrame:
    """Return Kafka records with the columns of a version, all null where a record cannot be decoded.

    `schemas` are the registered writer schemas by id.
    """
    options = {"mode": "PERMISSIVE", "avroSchema": avro.text(AVRO)}
    record = from_avro(F.lit(None).cast("binary"), avro.text(AVRO), options)
    for schema_id, text in schemas.items():
        is_writer = value_header() == binary(wire.header(schema_id))
        record = F.when(is_writer, from_avro(avro_body(), text, options)).otherwise(record)
    # A generator of one: the optimiser must not decode a record once for each of its fields.
    exploded = records.select("offset", F.explode(F.array(record)).alias(_RECORD))
    return exploded.select("offset", *(F.col(f"{_RECORD}.{name}") for name in _KEY), *_content(), _field("valid_from"))


def intervals(versions: DataFrame) -> DataFrame:
    """Return the rows of `gold_instruments` for some versions of instruments, of each all that are known.

    A version is valid until the next begins, so the intervals of an instrument never overlap. What repeats the version
    before it is none; nor is another spelling of the same definition. A listing never goes back.
    """
    in_time = Window.partitionBy(*_KEY).orderBy("valid_from")
    # Of versions that begin at the same time one is valid, whichever comes first.
    at_once = versions.groupBy(*_KEY, "valid_from").agg(F.max(F.struct(*_CONTENT)).alias("version"))
    numbered = at_once.select(*_KEY, "valid_from", "version.*").withColumn("listing", F.max("listing").over(in_time))
    compared = numbered.withColumn("content", _comparable()).withColumn("before", F.lag("content").over(in_time))
    changes = compared.where(~F.equal_null("content", "before"))
    bounded = changes.withColumn("valid_to", F.lead("valid_from").over(in_time))
    is_delisted = F.col("status") == InstrumentStatus.DELISTED.value
    end = F.last(F.when(~is_delisted, F.col("valid_to")), ignorenulls=True).over(in_time)
    dated = bounded.withColumn("delisted_at", F.when(is_delisted, end))
    return dated.select(*INSTRUMENTS_TABLE.column_names)


def _content() -> list[Column]:
    types = {column.name: column.type for column in DEFINITION}
    return [F.lit(None).cast(types[name]).alias(name) if name in _NOT_IN_RECORDS else _field(name) for name in _CONTENT]


def _field(name: str) -> Column:
    return F.col(f"{_RECORD}.{name}")


def _comparable() -> Column:
    """Return what tells a version from others: the order of the keys in its definition, and spaces, do not."""
    parsed = F.to_json(F.try_parse_json("definition"))
    names = [name for name in _CONTENT if name != "definition"]
    return F.struct(*names, F.coalesce(parsed, F.col("definition")).alias("definition"))
