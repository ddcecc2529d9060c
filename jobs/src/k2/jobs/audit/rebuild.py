"""Rebuild of Silver and Gold from Bronze, compared with the tables by order-independent hashes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import conflicts, gold, silver
from k2.schemas.channels import Channel

_KAFKA = ("topic", "partition", "offset")
_DEAD_LETTER = ("value", *_KAFKA, "schema_id", "error_category", "error_message")


@dataclass(frozen=True, slots=True)
class Digest:
    """The number of rows and the sum of their hashes."""

    rows: int
    hash: int


def revalidated(bronze: DataFrame, channel: Channel, schemas: Mapping[str, Mapping[int, str]], label: str) -> DataFrame:
    """Return every Bronze row, validated again. `schemas` are the writer schemas by topic and id."""
    topics = [
        silver.validated(bronze.where(F.col("topic") == topic), channel, writer_schemas, label)
        for topic, writer_schemas in schemas.items()
    ]
    return reduce(DataFrame.unionByName, topics)


def with_conflicts(validated: DataFrame, channel: Channel, older_silver: DataFrame, other_gold: DataFrame) -> DataFrame:
    """Return the rows of `revalidated`, those with other content under a known identity as dead letters.

    `older_silver` came before them; `other_gold` are Gold's rows that nothing in Silver explains any more.
    """
    if not channel.content:
        return validated
    older = conflicts.stored(older_silver, channel).unionByName(conflicts.in_gold(other_gold, channel))
    copies = conflicts.suspicious(conflicts.arrived(validated, channel).unionByName(older), channel)
    return conflicts.marked(validated, conflicts.collected(conflicts.among(copies, channel)))


def deduplicated(records: DataFrame, channel: Channel) -> DataFrame:
    """Return Silver rows as Gold rows: of equal records the one with the lowest offset."""
    order = Window.partitionBy(*channel.identity).orderBy(gold.kafka_position())
    first = records.withColumn("rank", F.row_number().over(order)).where("rank = 1")
    return gold.to_gold(first, channel)


def silver_digest(records: DataFrame, channel: Channel) -> Digest:
    """Return the digest of rebuilt or stored Silver records."""
    maps = {name: F.col(name) for name in channel.map_columns}
    return _digest(records, *_values(channel, maps), F.col("schema_id"), *map(F.col, _KAFKA))


def dead_letter_digest(dead_letters: DataFrame) -> Digest:
    """Return the digest of rebuilt or stored dead letters."""
    return _digest(dead_letters, *map(F.col, _DEAD_LETTER))


def gold_digest(records: DataFrame, channel: Channel) -> Digest:
    """Return the digest of rebuilt or stored Gold records."""
    types = {column.name: column.type for column in channel.columns}
    maps = {name: F.from_json(name, types[name]) for name in channel.map_columns}
    return _digest(records, *_values(channel, maps), F.col("exchange_date"), F.col("exchange_hour"))


def _values(channel: Channel, maps: Mapping[str, Column]) -> list[Column]:
    """Return a record's columns for hashing, with `maps` in an order of their own: Spark hashes no map."""
    return [_sorted(maps[name]) if name in maps else F.col(name) for name in channel.column_names]


def _digest(rows: DataFrame, *columns: Column) -> Digest:
    hashed = rows.select(F.xxhash64(*columns).cast("decimal(38,0)").alias("hash"))
    total = hashed.agg(F.count("*").alias("rows"), F.coalesce(F.sum("hash"), F.lit(0)).alias("hash")).collect()[0]
    return Digest(total["rows"], int(total["hash"]))


def _sorted(entries: Column) -> Column:
    return F.to_json(F.array_sort(F.map_entries(entries)))
