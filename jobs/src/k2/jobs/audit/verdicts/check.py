"""Compares what the layers hold with the verdicts of before, and gives the verdicts to append."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.completeness.hours import HourCompleteness
from k2.jobs.audit.records.check import CheckedRecords
from k2.jobs.audit.scope import VERDICTS, Scope, hour_of
from k2.jobs.audit.verdicts import verdict
from k2.jobs.audit.verdicts.layer_digests import LayerRows
from k2.jobs.audit.verdicts.verdict import BRONZE, GOLD, SILVER, Chain, Hour, LayerDigests
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.digests import Digest
from k2.schemas.values import to_micros


def check(
    scope: Scope, hours: Sequence[HourCompleteness], verdicts: Chain, records: CheckedRecords
) -> list[dict[str, Any]]:
    """Report what differs from earlier verdicts; return the verdicts to append, none on a changed hour."""
    for row in verdicts.broken:
        text = f"verdict {row['revision']} does not follow the verdict before it: one was changed or deleted"
        scope.add_at("verdict_chain", VERDICTS, row["symbol"], row["hour"], text)
    rows = _judged_rows(scope, scope.start)
    layers = rows.by_hour()
    first = 0 if scope.start is None else to_micros(scope.start)
    comparable = {
        BRONZE: max(first, scope.retained_from(scope.bronze_table)),
        SILVER: max(first, scope.retained_from(scope.silver_table)),
        GOLD: first,
    }
    changes = verdict.changes(verdicts.newest.values(), layers, comparable)
    earlier = rows.judged_before(scope.spark, (change for change in changes if change.now.rows > change.then.rows))
    changed: set[tuple[str, Hour]] = set()
    for change in changes:
        hour = change.symbol, change.hour
        if earlier.get((change.layer, hour), Digest()) == change.then:
            continue  # late rows, which their revision will name
        changed.add((change.layer, hour))
        scope.add_at(f"{change.layer}_changed", change.layer, *hour, change.text)
    unsound = set(records.unsound)
    for difference in records.differences:
        hour = difference.symbol, hour_of(difference.at)
        of_silver = (SILVER, hour) in changed and (GOLD, hour) not in changed
        scope.add_at("gold_mismatch", SILVER if of_silver else GOLD, *hour, difference.text)
        unsound.add(hour)
    differing = {hour for _, hour in changed} | unsound
    snapshot, now = scope.pinned.snapshot_id(scope.channel.gold), to_micros(scope.now)
    appended = []
    for one in hours:
        key = one.symbol, to_micros(one.hour)
        before = verdicts.newest.get(key)
        row = verdict.new_row(one, layers.get(key, LayerDigests()), snapshot, now)
        if key in differing:
            if before is None:
                continue
            row = verdict.with_digests_of(before, row, verdict.DIGESTS)  # what differs never becomes the truth
        elif before is not None:
            removed = [layer for layer, retained in comparable.items() if key[1] < retained]
            row = verdict.with_digests_of(before, row, removed)
        if (chained := verdicts.append(row)) is not None:
            appended.append(chained)
    return appended


def _judged_rows(scope: Scope, start: datetime | None) -> LayerRows:
    """Return the rows since `start` (None: all) up to what Gold has read."""
    limits = [
        {"topic": topic, "partition": number, "upto": upto} for (topic, number), upto in scope.gold_frontier.items()
    ]
    limit = F.broadcast(local_frame(scope.spark, limits, "topic string, partition int, upto bigint"))

    def judged(rows: DataFrame, time: Column) -> DataFrame:
        recent = rows if start is None else rows.where(time >= F.lit(start))
        return recent.join(limit, ["topic", "partition"]).where("offset < upto").drop("upto")

    gold = scope.gold if start is None else scope.gold.where(scope.time >= F.lit(start))
    bronze = judged(scope.pinned.rows(scope.bronze_table), F.col("kafka_timestamp"))
    return LayerRows(scope.channel, bronze, judged(scope.silver, scope.time), gold)
