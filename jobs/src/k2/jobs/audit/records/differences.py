"""Records whose values in Gold are those of no copy in Silver that Gold can have been made from."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit import digests
from k2.jobs.audit.records.uniqueness import describe, descriptive_columns
from k2.jobs.layers import gold
from k2.jobs.layers.conflicts import kafka_place
from k2.schemas.channels import Channel
from k2.schemas.digests import RECORD
from k2.schemas.values import from_micros

MOST: Final = 1000
_LONGEST: Final = 100  # characters of a value in a text


@dataclass(frozen=True, slots=True)
class Difference:
    """A record of which Silver and Gold have other values. `at` is its time in Gold, in UTC microseconds."""

    symbol: str
    at: int
    text: str


def describe_all(channel: Channel, silver: DataFrame, in_gold: DataFrame, hashes: DataFrame) -> list[Difference]:
    """Return the differences of the identities with some hashes."""
    columns = descriptive_columns(channel)
    copies = _texts(silver, channel, hashes).withColumn("place", kafka_place())
    of_silver = copies.groupBy("hash").agg(F.collect_list(F.struct("place", "record", "texts")).alias("copies"))
    of_gold = _texts(digests.with_maps(in_gold, channel), channel, hashes).select(
        "hash", "at", "record", "texts", *columns
    )
    has_equal = F.array_contains(F.transform("copies", lambda copy: copy["record"]), F.col("record"))
    rows = of_gold.join(of_silver, "hash").where(~has_equal).orderBy(*columns).limit(MOST)
    return [
        Difference(row["symbol"], row["at"], f"{describe(channel, row.asDict())} {_text(row['texts'], row['copies'])}")
        for row in rows.collect()
    ]


def _texts(rows: DataFrame, channel: Channel, hashes: DataFrame) -> DataFrame:
    """Return the rows of some identities, with their time, and with their values as a hash and as a map of texts."""
    few = rows.withColumn("hash", F.xxhash64(*channel.identity)).join(hashes, "hash", "left_semi")
    types = {column.name: column.type for column in channel.columns}
    entries = [part for name in channel.column_names for part in (F.lit(name), _value(name, types[name]))]
    return few.select(
        "*",
        digests.row_hash(few, RECORD, channel.column_names).alias("record"),
        F.unix_micros(gold.record_time(channel)).alias("at"),
        F.create_map(*entries).alias("texts"),
    )


def _value(name: str, kind: str) -> Column:
    if kind == "timestamp":
        return F.unix_micros(name).cast("string")
    if kind.startswith("map<"):
        return F.to_json(F.map_from_entries(F.array_sort(F.map_entries(name))))
    return F.to_json(name) if "<" in kind else F.col(name).cast("string")


def _text(in_gold: Mapping[str, str | None], copies: Iterable[Any]) -> str:
    """Return what Gold has and what the nearest of Silver's copies has instead."""
    nearest = min(copies, key=lambda copy: (len(_differing(in_gold, copy["texts"])), copy["place"]))
    names = _differing(in_gold, nearest["texts"])
    return f"has {_values(in_gold, names)} in Gold, and {_values(nearest['texts'], names)} in {nearest['place']}"


def _differing(first: Mapping[str, str | None], second: Mapping[str, str | None]) -> list[str]:
    return [name for name, value in first.items() if value != second[name]]


def _values(texts: Mapping[str, str | None], names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_shown(name, texts[name])}" for name in names)


def _shown(name: str, text: str | None) -> str:
    if text is None:
        return "null"
    if name.endswith(("timestamp", "_time")) and text.lstrip("-").isdigit():
        return f"{from_micros(int(text)):%Y-%m-%dT%H:%M:%S.%fZ}"
    shown = text.rstrip("0").rstrip(".") if "." in text and text.replace(".", "").isdigit() else text
    return shown if len(shown) <= _LONGEST else json.dumps(shown[:_LONGEST]) + "..."
