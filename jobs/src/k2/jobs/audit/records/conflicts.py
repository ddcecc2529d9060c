"""Conflicts that the audit reports: dead letters, and copies with other content that Silver or Gold hold.

Silver rejects a conflict where it sees one. What it cannot see is found here: copies whose times are so far apart that
no search led from one to the other, and a first copy that only Gold holds any more, where Silver had no sign of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.records.uniqueness import describe, descriptive_columns
from k2.jobs.layers import gold
from k2.jobs.layers.conflicts import gold_place, kafka_place
from k2.schemas.channels import Channel
from k2.schemas.content import ID_CONFLICT, differences, same_time
from k2.schemas.values import from_micros

MOST: Final = 1000  # findings of each kind
_SILVER, _GOLD = "silver", "gold"


@dataclass(frozen=True, slots=True)
class _Copy:
    """A row of Silver or Gold. `stored_at` is when its batch began, in UTC microseconds."""

    layer: str
    place: str
    time: int
    stored_at: int
    content: Mapping[str, Any]


def in_dead_letters(dead_letters: DataFrame) -> list[str]:
    """Return a text about each conflict that Silver rejected."""
    rows = dead_letters.where(F.col("error_category") == ID_CONFLICT).orderBy("topic", "partition", "offset")
    return [
        f"dead letter {ID_CONFLICT} at {row['topic']}/{row['partition']} offset {row['offset']}: {row['error_message']}"
        for row in rows.select("topic", "partition", "offset", "error_message").limit(MOST).collect()
    ]


def in_tables(channel: Channel, silver: DataFrame, in_gold: DataFrame, hashes: DataFrame) -> list[str]:
    """Return a text about each identity, among some hashes, whose copies in Silver and Gold have other content."""
    columns = descriptive_columns(channel)
    copies = _copies(silver, channel, _SILVER, kafka_place(), "validation_timestamp").unionByName(
        _copies(in_gold, channel, _GOLD, gold_place(channel), "gold_ingestion_timestamp")
    )
    suspicious = copies.join(hashes, "hash", "left_semi")
    fields = [name for name in copies.columns if name not in {"hash", *columns}]
    grouped = suspicious.groupBy(*columns).agg(F.array_sort(F.collect_set(F.struct(*fields))).alias("copies"))
    differing = F.exists("copies", lambda one: F.exists("copies", lambda other: _differ(one, other, channel)))
    texts: list[str] = []
    # Copies that differ only because Gold's row was changed are no conflict: `differences` describes them.
    for row in grouped.where(differing).orderBy(*columns).toLocalIterator():
        pair = _conflict(channel, [_copy(channel, entry) for entry in row["copies"]])
        if pair is not None:
            texts.append(
                f"{describe(channel, row.asDict())} has other content in another copy: {_text(channel, *pair)}"
            )
        if len(texts) == MOST:
            break
    return texts


def _copies(rows: DataFrame, channel: Channel, layer: str, place: Column, stored_at: str) -> DataFrame:
    return rows.select(
        F.xxhash64(*channel.identity).alias("hash"),
        *descriptive_columns(channel),
        F.unix_micros(stored_at).alias("stored_at"),
        F.lit(layer).alias("layer"),
        place.alias("place"),
        F.unix_micros(gold.record_time(channel)).alias("time"),
        *(F.col(name).alias(f"content_{name}") for name in channel.content),
    )


def _differ(one: Column, other: Column, channel: Channel) -> Column:
    differing: Column = ~same_time(one["time"], other["time"])
    for name in channel.content:
        differing |= ~F.equal_null(one[f"content_{name}"], other[f"content_{name}"])
    return differing


def _copy(channel: Channel, entry: Any) -> _Copy:
    content = {name: entry[f"content_{name}"] for name in channel.content}
    return _Copy(entry["layer"], entry["place"], entry["time"], entry["stored_at"], content)


def _conflict(channel: Channel, copies: Iterable[_Copy]) -> tuple[_Copy, _Copy] | None:
    """Return the first of the `copies`, in order of `stored_at`, and one with other content that cannot be that row."""
    earlier: list[_Copy] = []
    for copy in copies:
        for first in earlier:
            # Gold's row was made from a row of Silver that was stored before it, and may be that very row.
            if not (first.layer == _SILVER and copy.layer == _GOLD) and _differing(channel, first, copy):
                return first, copy
        earlier.append(copy)
    return None


def _differing(channel: Channel, first: _Copy, copy: _Copy) -> tuple[str, ...]:
    return differences(channel.content, first.content, copy.content, (first.time, copy.time))


def _text(channel: Channel, first: _Copy, copy: _Copy) -> str:
    names = _differing(channel, first, copy)
    return f"{first.place} has {_values(first, names)}; {copy.place} has {_values(copy, names)}"


def _values(copy: _Copy, names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_value(copy, name)}" for name in names)


def _value(copy: _Copy, name: str) -> str:
    if name == "time":
        return from_micros(copy.time).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    text = f"{copy.content[name]:f}" if hasattr(copy.content[name], "as_tuple") else str(copy.content[name])
    return text.rstrip("0").rstrip(".") if "." in text else text
