"""Checks that each identity that Gold's queries have processed is in Gold once, with Silver's values, and no others."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.records import conflicts, differences, uniqueness
from k2.jobs.audit.records.differences import Difference
from k2.jobs.audit.scope import Scope, hour_of
from k2.jobs.audit.verdicts.verdict import GOLD, Hour
from k2.jobs.layers.gold import MARGIN
from k2.jobs.spark.local_frames import local_frame


@dataclass(frozen=True, slots=True)
class CheckedRecords:
    """The hours of which Gold has too much, and how Silver and Gold differ: verdicts say which of the two changed."""

    unsound: set[Hour] = field(default_factory=set)
    differences: Sequence[Difference] = ()


def check(scope: Scope, missing_offsets: int) -> CheckedRecords:
    """Report the records that Gold lacks, has more than once or has for itself; `missing_offsets` are Silver's."""
    channel = scope.channel
    pruned = scope.pinned.pruned_before(scope.silver_table)
    # Retention deletes Silver's rows by the column that partitions the table.
    retained = F.col(channel.time_columns[-1]) >= F.lit(pruned).cast("timestamp") if pruned else F.lit(True)
    recent = scope.time >= F.lit(scope.since) if scope.since else F.lit(True)
    silver = scope.recent(scope.silver, scope.time, MARGIN).withColumn("in_scope", recent)
    in_gold = scope.recent(scope.gold, scope.time, MARGIN).withColumn("in_scope", recent & retained)
    rows = uniqueness.identities(scope.spark, channel, silver, in_gold, scope.gold_frontier)
    comparison = uniqueness.compare(channel, rows)
    orphans = comparison.orphans
    if missing_offsets and orphans and len(orphans) <= missing_offsets:  # the same cause, so one finding
        rest = f"; Gold has {len(orphans)} of their records"
        missing = [finding for finding in scope.findings if finding.check == "silver_missing"]
        scope.findings[scope.findings.index(missing[-1])] = replace(missing[-1], text=missing[-1].text + rest)
        orphans = ()
    unsound: set[Hour] = set()
    for name, problem, mismatches in (
        ("gold_duplicate", "is in Gold more than once", comparison.duplicates),
        ("gold_missing", "is in Silver but not in Gold", comparison.missing),
        ("gold_orphan", "is in Gold but not in Silver", orphans),
    ):
        for entry in mismatches:
            scope.add(name, f"{entry.record} {problem}", GOLD, entry.symbol, entry.at)
            if name != "gold_missing":
                unsound.add((entry.symbol, hour_of(entry.at)))
    if comparison.differing is not None:
        for text in conflicts.in_tables(channel, silver, in_gold, comparison.differing):
            scope.add("id_conflict", text)
    differing: Sequence[Difference] = ()
    if comparison.changed is not None:
        differing = differences.describe_all(channel, silver, in_gold, comparison.changed)
    scope.report.duplicates = comparison.repeats
    scope.report.lag["gold"] = comparison.pending
    if comparison.pending:
        scope.note_pending(_beyond(scope), scope.time)
    return CheckedRecords(unsound, differing)


def _beyond(scope: Scope) -> DataFrame:
    """Return the recent rows of Silver that Gold has not read."""
    limits = [
        {"topic": topic, "partition": number, "upto": upto} for (topic, number), upto in scope.gold_frontier.items()
    ]
    limit = F.broadcast(local_frame(scope.spark, limits, "topic string, partition int, upto bigint"))
    return scope.recent_silver.join(limit, ["topic", "partition"], "left").where("offset >= coalesce(upto, 0)")
