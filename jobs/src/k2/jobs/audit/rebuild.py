"""Silver and Gold built anew from Bronze, to be compared with the tables: as hashes that know no order."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import gold, silver
from k2.schemas.tables import TRADE_COLUMNS

_KAFKA = ("topic", "partition", "offset")
_LETTER = ("value", *_KAFKA, "schema_id", "error_category", "error_message")


@dataclass(frozen=True, slots=True)
class Digest:
    """How many rows, and the sum of their hashes."""

    rows: int
    hash: int


def rebuilt(bronze: DataFrame, schemas: Mapping[str, Mapping[int, str]], label: str) -> DataFrame:
    """Every Bronze row judged again. `schemas` are each topic's writer schemas by id."""
    judged = [silver.judged(bronze.where(F.col("topic") == topic), known, label) for topic, known in schemas.items()]
    found = judged[0]
    for more in judged[1:]:
        found = found.unionByName(more)
    return found


def deduplicated(trades: DataFrame) -> DataFrame:
    """Silver rows as Gold would hold them: of equal trades the one with the lowest offset."""
    order = Window.partitionBy("message_id").orderBy(gold.place())
    first = trades.withColumn("rank", F.row_number().over(order)).where("rank = 1")
    return gold.unified(first)


def of_silver(trades: DataFrame) -> Digest:
    """The digest of valid trades, whether rebuilt or stored."""
    columns = [F.col(name) for name in TRADE_COLUMNS if name != "vendor_data"]
    return _digest(trades, *columns, _sorted(F.col("vendor_data")), F.col("schema_id"), *map(F.col, _KAFKA))


def of_dead_letters(letters: DataFrame) -> Digest:
    """The digest of dead letters, whether rebuilt or stored."""
    return _digest(letters, *map(F.col, _LETTER))


def of_gold(trades: DataFrame) -> Digest:
    """The digest of unified trades, whether rebuilt or stored."""
    vendor = _sorted(F.from_json("vendor_data", "map<string,string>"))
    columns = [F.col(name) for name in TRADE_COLUMNS if name != "vendor_data"]
    return _digest(trades, *columns, vendor, F.col("exchange_date"), F.col("exchange_hour"))


def _digest(rows: DataFrame, *columns: Column) -> Digest:
    hashed = rows.select(F.xxhash64(*columns).cast("decimal(38,0)").alias("hash"))
    found = hashed.agg(F.count("*").alias("rows"), F.coalesce(F.sum("hash"), F.lit(0)).alias("hash")).collect()[0]
    return Digest(found["rows"], int(found["hash"]))


def _sorted(vendor: Column) -> Column:
    return F.to_json(F.array_sort(F.map_entries(vendor)))
