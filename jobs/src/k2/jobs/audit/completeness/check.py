"""Checks that each id that the exchange issued is in Gold, hour by hour."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any, Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range
from k2.jobs.audit.completeness import hours as completeness
from k2.jobs.audit.completeness import never_issued
from k2.jobs.audit.completeness import seconds as durations
from k2.jobs.audit.completeness.earlier import Earlier
from k2.jobs.audit.completeness.hours import Gap, HourCompleteness
from k2.jobs.audit.scope import GAPS, Scope
from k2.jobs.audit.verdicts.verdict import GOLD
from k2.schemas.channels import Sequencing
from k2.schemas.states import GapState
from k2.schemas.tables import GAPS_TABLE
from k2.schemas.values import from_micros, to_micros

_HOUR: Final = timedelta(hours=1)
_LOST: Final = ("bronze_gap", "silver_missing", "gold_missing")


def check(
    scope: Scope, gaps: Sequence[Gap], states: Mapping[str, int], evidence: Mapping[str, bool], earlier: Earlier
) -> list[HourCompleteness]:
    """Return the completeness of every hour, and report what is missing.

    `states` is the number of gaps by state, `evidence` says of each stored answer whether its body has its hash.
    `earlier` are the verdicts on the hours before those that are judged: what is missing by them is reported too.
    """
    channel, start = scope.channel, scope.start
    nearby = scope.gold if start is None else scope.gold.where(scope.time >= F.lit(start - _HOUR))
    before = None if start is None else earlier.last_ids(start)
    aggregated = completeness.hours(nearby, channel, scope.exchange, before)
    rows = aggregated.withColumn("hour", F.expr("unix_micros(hour)")).collect()
    fields = ({**row.asDict(), "hour": from_micros(row["hour"])} for row in rows)
    skipped = _never_issued(scope, gaps, evidence, nearby)
    spent = durations.by_hour(nearby, channel) if channel.sequencing is not Sequencing.EXCHANGE_IDS else {}
    hours = [
        completeness.evaluate(
            row, channel, scope.exchange, scope.now, skipped.get(row["symbol"], ()),
            spent.pop((row["symbol"], to_micros(row["hour"])), None),
        )
        for row in fields
    ]  # fmt: skip
    hours += [
        completeness.without_rows(symbol, from_micros(hour), channel, scope.exchange, scope.now, seconds)
        for (symbol, hour), seconds in spent.items()
    ]
    hours = sorted((hour for hour in hours if start is None or hour.hour >= start), key=lambda h: (h.symbol, h.hour))
    settled = earlier.incomplete(start) if scope.incremental and start is not None else []
    for hour in sorted((*settled, *hours), key=lambda one: (one.symbol, one.hour)):
        findings, in_repair = completeness.describe_missing(hour, gaps)
        for text in findings:
            scope.add("missing_ids", text, GOLD, hour.symbol, to_micros(hour.hour))
        scope.report.in_repair += in_repair
        if channel.verdict_column and hour.state == completeness.INCOMPLETE:
            suspect, listed = completeness.describe_lost_time(hour)
            for text in suspect:
                scope.add("suspect_records", text, GOLD, hour.symbol, to_micros(hour.hour))
            scope.report.missing_time += listed
    _report_contradicted(scope, hours, gaps)
    scope.report.rows["gold"] = sum(sum(hour.by_source.values()) for hour in hours)
    scope.report.gaps = dict(states)
    scope.report.completeness = _summary(hours)
    return hours


def _report_contradicted(scope: Scope, hours: Iterable[HourCompleteness], gaps: Sequence[Gap]) -> None:
    """Report the gaps that are listed as repaired although their ids are missing."""
    if scope.report.lag.get("bronze"):
        return  # what repaired them may be in Kafka
    # What a layer lost was once there, and its gap rightly repaired.
    lost = {finding.symbol for finding in scope.findings if finding.check in _LOST}
    on_the_way = math.inf if scope.pending_since is None else scope.pending_since
    contradicted = {gap for hour in hours if hour.symbol not in lost for gap in completeness.contradicted(hour, gaps)}
    for gap in sorted(contradicted, key=lambda one: (one.symbol, one.first)):
        if gap.resolved_at < on_the_way:
            text = f"the gap {gap.first} to {gap.last} of {scope.label} {gap.symbol} is listed as repaired"
            text = f"{GAPS_TABLE.name}: {text}, and ids of it are missing"
            scope.add("gap_contradicted", text, GAPS, gap.symbol, gap.detected_at)


def _never_issued(
    scope: Scope, gaps: Iterable[Gap], evidence: Mapping[str, bool], gold: DataFrame
) -> Mapping[str, Sequence[Range]]:
    """Return the ids by symbol that the exchange is proved to have never issued; report what is not, or no more."""
    proved, listed = [], list(gaps)
    for gap in listed:
        if problem := never_issued.problem(gap, evidence):
            scope.add(problem.check, f"{scope.label} {gap.symbol}: {problem.text}")
        elif gap.state == GapState.NEVER_ISSUED:
            proved.append(gap)
    scope.report.revoked = [f"{scope.label} {text}" for text in never_issued.revoked(listed)]
    skipped = never_issued.by_symbol(proved)
    arrived = never_issued.arrived(scope.spark, gold, scope.channel, skipped)
    scope.report.revoked += [f"{scope.label} {text}" for text in arrived]
    return skipped


def _summary(hours: list[HourCompleteness]) -> dict[str, Any]:
    sources: Counter[str] = Counter()
    for hour in hours:
        sources.update(hour.by_source)
    verified = [hour for hour in hours if hour.expected is not None]
    return {
        "hours": dict(sorted(Counter(hour.state for hour in hours).items())),
        "expected": sum(hour.expected or 0 for hour in verified),
        "actual": sum(hour.actual for hour in verified),
        "by_source": dict(sorted(sources.items())),
        "symbols": [
            {
                "symbol": hour.symbol, "hour": hour.hour.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "first_id": hour.first_id, "last_id": hour.last_id, "expected": hour.expected, "actual": hour.actual,
                "missing": [list(ids) for ids in hour.missing],
                "never_issued": [list(ids) for ids in hour.never_issued], "state": hour.state,
                **({"seconds": dict(hour.seconds)} if hour.seconds else {}),
            }
            for hour in hours
        ],
    }  # fmt: skip
