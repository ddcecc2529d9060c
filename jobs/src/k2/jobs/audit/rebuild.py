"""Rebuild of Silver and Gold from Bronze, compared with the tables by order-independent hashes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import gold, silver
from k2.schemas.tables import TRADE_COLUMNS

_KAFKA = ("topic", "partition", "offset")
_DEAD_LETTER = ("value", *_KAFKA, "schema_id", "error_category", "error_message")


@dataclass(frozen=True, slots=True)
class Digest:
    """The number of rows and the sum of their hashes."""

    rows: int
    hash: int


def revalidated(bronze: DataFrame, schemas: Mapping[str, Mapping[int, str]], label: str) -> DataFrame:
    """Return every Bronze row, validated again. `schemas` are the writer schemas by topic and id."""
    topics = [
        silver.validated(bronze.where(F.col("topic") == topic), writer_schemas, label)
        for topic, writer_schemas in schemas.items()
    ]
    return reduce(DataFrame.unionByName, topics)


def deduplicated(trades: DataFrame) -> DataFrame:
    """Return Silver rows as Gold rows: of equal trades the one with the lowest offset."""
    order = Window.partitionBy("message_id").orderBy(gold.kafka_position())
    first = trades.withColumn("rank", F.row_number().over(order)).where("rank = 1")
    return gold.to_gold(first)


def silver_digest(trades: DataFrame) -> Digest:
    """Return the digest of rebuilt or stored Silver trades."""
    columns = [F.col(name) for name in TRADE_COLUMNS if name != "vendor_data"]
    return _digest(trades, *columns, _sorted(F.col("vendor_data")), F.col("schema_id"), *map(F.col, _KAFKA))


def dead_letter_digest(dead_letters: DataFrame) -> Digest:
    """Return the digest of rebuilt or stored dead letters."""
    return _digest(dead_letters, *map(F.col, _DEAD_LETTER))


def gold_digest(trades: DataFrame) -> Digest:
    """Return the digest of rebuilt or stored Gold trades."""
    vendor = _sorted(F.from_json("vendor_data", "map<string,string>"))
    columns = [F.col(name) for name in TRADE_COLUMNS if name != "vendor_data"]
    return _digest(trades, *columns, vendor, F.col("exchange_date"), F.col("exchange_hour"))


def _digest(rows: DataFrame, *columns: Column) -> Digest:
    hashed = rows.select(F.xxhash64(*columns).cast("decimal(38,0)").alias("hash"))
    total = hashed.agg(F.count("*").alias("rows"), F.coalesce(F.sum("hash"), F.lit(0)).alias("hash")).collect()[0]
    return Digest(total["rows"], int(total["hash"]))


def _sorted(vendor: Column) -> Column:
    return F.to_json(F.array_sort(F.map_entries(vendor)))
