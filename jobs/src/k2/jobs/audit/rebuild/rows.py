"""Rebuild of Silver and Gold from Bronze, compared with the tables by digests."""

from collections.abc import Mapping
from functools import reduce
from typing import Final

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit import digests
from k2.jobs.layers import conflicts, gold, silver
from k2.schemas.channels import Channel
from k2.schemas.digests import (
    DEAD_LETTER,
    GOLD,
    SILVER,
    Digest,
    dead_letter_columns,
    gold_columns,
    silver_columns,
)

# All rows are of one origin, and those that are rebuilt do not name it.
_DEAD_LETTER: Final = tuple(name for name in dead_letter_columns() if name not in {"exchange", "channel"})


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
    return digests.digest(records, SILVER, silver_columns(channel))


def dead_letter_digest(dead_letters: DataFrame) -> Digest:
    """Return the digest of rebuilt or stored dead letters."""
    return digests.digest(dead_letters, DEAD_LETTER, _DEAD_LETTER)


def gold_digest(records: DataFrame, channel: Channel) -> Digest:
    """Return the digest of rebuilt or stored Gold records. The order of a map's entries makes no difference."""
    return digests.digest(digests.with_maps(records, channel), GOLD, gold_columns(channel))
