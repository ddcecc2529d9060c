"""Checks that Silver and Gold equal what Bronze gives when validated again."""

from collections.abc import Callable, Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.offsets.check import CheckedOffsets
from k2.jobs.audit.pinned_snapshots import Frontier
from k2.jobs.audit.rebuild import rows as rebuild
from k2.jobs.audit.scope import Scope
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.digests import Digest

Schemas = Callable[[str], Mapping[int, str]]  # a topic's writer schemas by id


def check(scope: Scope, offsets: CheckedOffsets, schemas: Schemas) -> None:
    """Report the layers that differ from their rebuild. Raises `RegistryUnavailable`."""
    topics = sorted({topic for topic, _ in offsets.floors})
    if not topics:
        return
    writer_schemas = {topic: schemas(topic) for topic in topics}

    def due(rows: DataFrame, frontier: Frontier) -> DataFrame:
        return _due(scope, offsets, rows, frontier)

    channel, bronze = scope.channel, due(scope.bronze, offsets.frontier)
    revalidated = rebuild.revalidated(bronze, channel, writer_schemas, scope.label).persist()
    identity, older = list(channel.identity), _below(scope, offsets, scope.silver)
    other_gold = scope.gold.join(scope.silver.select(*identity), identity, "left_anti")
    validated = rebuild.with_conflicts(revalidated, channel, older, other_gold)
    valid = validated.where("error_category IS NULL")
    invalid = validated.where("error_category IS NOT NULL")
    stored = due(scope.recent_silver, offsets.frontier)
    _compare(scope, "silver", rebuild.silver_digest(valid, channel), rebuild.silver_digest(stored, channel))
    dead_letters = due(scope.dead_letters, offsets.frontier)
    _compare(scope, "dead_letters", rebuild.dead_letter_digest(invalid), rebuild.dead_letter_digest(dead_letters))
    # Rows before Bronze's first one have decided already which of equal records is in Gold.
    first = rebuild.deduplicated(due(valid, scope.gold_frontier), channel)
    first = first.join(older.select(*identity), identity, "left_anti")
    in_gold = scope.gold.join(first.select(*identity), identity, "left_semi")
    _compare(scope, "gold", rebuild.gold_digest(first, channel), rebuild.gold_digest(in_gold, channel))
    revalidated.unpersist()


def _compare(scope: Scope, layer: str, rebuilt: Digest, stored: Digest) -> None:
    if rebuilt == stored:
        scope.report.rebuilt[layer] = rebuilt.rows
        return
    difference = "other rows" if rebuilt.rows == stored.rows else f"{rebuilt.rows} rows"
    scope.add(f"rebuild_{layer}", f"{layer} has {stored.rows} rows; the rebuild from Bronze has {difference}")


def _due(scope: Scope, offsets: CheckedOffsets, rows: DataFrame, frontier: Frontier) -> DataFrame:
    limits = [
        {"topic": topic, "partition": number, "floor": floor, "upto": frontier.get((topic, number), 0)}
        for (topic, number), floor in offsets.floors.items()
    ]
    limit = local_frame(scope.spark, limits, "topic string, partition int, floor bigint, upto bigint")
    due = rows.join(F.broadcast(limit), ["topic", "partition"])
    return due.where("offset >= floor AND offset < upto").drop("floor", "upto")


def _below(scope: Scope, offsets: CheckedOffsets, rows: DataFrame) -> DataFrame:
    limits = [
        {"topic": topic, "partition": number, "floor": floor} for (topic, number), floor in offsets.floors.items()
    ]
    limit = local_frame(scope.spark, limits, "topic string, partition int, floor bigint")
    return rows.join(F.broadcast(limit), ["topic", "partition"]).where("offset < floor")
