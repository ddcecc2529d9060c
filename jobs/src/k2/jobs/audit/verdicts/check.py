"""Compares what the layers hold with the verdicts of before, and gives the verdicts to append."""

from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.completeness.hours import HourCompleteness
from k2.jobs.audit.pinned_snapshots import judged_rebuild_key
from k2.jobs.audit.records.check import CheckedRecords
from k2.jobs.audit.scope import VERDICTS, Scope, hour_of
from k2.jobs.audit.verdicts import verdict
from k2.jobs.audit.verdicts.chain import Chain
from k2.jobs.audit.verdicts.layer_digests import LayerRows
from k2.jobs.audit.verdicts.store import Verdicts
from k2.jobs.audit.verdicts.verdict import BRONZE, GOLD, SILVER, Change, Hour, LayerDigests
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.digests import Digest
from k2.schemas.values import from_micros, to_micros


def check(
    scope: Scope,
    hours: Sequence[HourCompleteness],
    stored: Verdicts,
    verdicts: Chain,
    records: CheckedRecords,
    altered_bronze: Mapping[Hour, Sequence[str]],
) -> list[dict[str, Any]]:
    """Report what differs from earlier verdicts; return the verdicts to append.

    An hour that changed keeps the digests of its verdict. Nothing is compared with a verdict that was itself changed
    or deleted, and nothing is appended to it. `altered_bronze` are positions of rows that are known to have changed.
    """
    rows = _judged_rows(scope, scope.start)
    layers = rows.by_hour()
    snapshot, now = scope.pinned.snapshot_id(scope.channel.gold), to_micros(scope.now)
    judged = {
        (key := (one.symbol, to_micros(one.hour))): verdict.new_row(one, layers.get(key, LayerDigests()), snapshot, now)
        for one in hours
    }
    verdicts.go_on_from(stored.last_of(verdicts.symbols_without_end(symbol for symbol, _ in judged)))
    problems = verdicts.doubtful(judged)
    for hour, text in sorted(problems.items()):
        scope.add_at("verdict_chain", VERDICTS, *hour, text)
    doubtful = {*problems, *verdicts.altered}
    first = 0 if scope.start is None else to_micros(scope.start)
    comparable = {
        BRONZE: max(first, scope.retained_from(scope.bronze_table)),
        SILVER: max(first, scope.retained_from(scope.silver_table)),
        GOLD: first,
    }
    changes = verdict.changes(
        (row for hour, row in verdicts.newest.items() if hour not in doubtful), layers, comparable
    )
    earlier = rows.judged_before(scope.spark, (change for change in changes if change.now.rows > change.then.rows))
    changed: set[tuple[str, Hour]] = set()
    rebuilt: set[Hour] = set()
    rebuilds = _rebuilds(scope)
    for change in sorted(changes, key=lambda one: one.layer != BRONZE):
        hour = change.symbol, change.hour
        if earlier.get((change.layer, hour), Digest()) == change.then:
            continue  # late rows, which their revision will name
        if _is_rebuilt(change, rebuilds) and (BRONZE, hour) not in changed:
            rebuilt.add(hour)  # from rows that are those of the verdict
            continue
        changed.add((change.layer, hour))
        named = altered_bronze.get(hour, ()) if change.layer == BRONZE else ()
        scope.add_at(f"{change.layer}_changed", change.layer, *hour, ": ".join((change.text, *_listed(named))))
    for hour, positions in altered_bronze.items():  # of rows without a key, or in hours without a verdict
        if (BRONZE, hour) not in changed:
            scope.add_at("bronze_changed", BRONZE, *hour, f"other values than before: {', '.join(positions)}")
            changed.add((BRONZE, hour))
    unsound = set(records.unsound)
    for difference in records.differences:
        hour = difference.symbol, hour_of(difference.at)
        of_silver = (SILVER, hour) in changed and (GOLD, hour) not in changed
        scope.add_at("gold_mismatch", SILVER if of_silver else GOLD, *hour, difference.text)
        unsound.add(hour)
    differing = {hour for _, hour in changed} | unsound
    settled = {hour: row for hour, row in judged.items() if hour not in doubtful}
    return list(_appended(verdicts, settled, differing, comparable, rebuilt))


def _rebuilds(scope: Scope) -> dict[str, Mapping[str, Any]]:
    """Return the rebuilds of layers after which no audit has judged everything that they replaced."""
    pending: dict[str, Mapping[str, Any]] = {}
    for layer, table in ((SILVER, scope.silver_table), (GOLD, scope.channel.gold)):
        of_table = table, scope.exchange, scope.channel
        if not (one := scope.pinned.rebuilt(*of_table)):
            continue
        at = f"{from_micros(one['at']):%Y-%m-%dT%H:%M:%SZ}"
        scope.report.rebuilds[layer] = f"{at}: {one['rows']} rows, {one['stayed']} older ones stayed"
        if one["at"] <= scope.pinned.judged_rebuild(*of_table):
            continue
        pending[layer] = one
        if scope.start is None or to_micros(scope.start) <= one["first"]:
            scope.judged_rebuilds[judged_rebuild_key(*of_table)] = one["at"]
    return pending


def _is_rebuilt(change: Change, rebuilds: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a layer was rebuilt after a verdict, with the verdict's hour, and no audit has judged it since."""
    one = rebuilds.get(change.layer)
    return one is not None and change.verdict["checked_at"] < one["at"] and change.hour >= one["first"]


def _listed(positions: Sequence[str]) -> tuple[str, ...]:
    return (", ".join(positions),) if positions else ()


def _appended(
    verdicts: Chain,
    judged: Mapping[Hour, dict[str, Any]],
    differing: Container[Hour],
    comparable: Mapping[str, int],
    rebuilt: Container[Hour],
) -> Iterator[dict[str, Any]]:
    """Yield the verdicts that hours need, none first one on an hour whose layers differ."""
    for hour, row in judged.items():
        before, revised = verdicts.newest.get(hour), row
        if hour in differing:
            if before is None:
                continue
            revised = verdict.with_digests_of(before, row, verdict.DIGESTS)  # what differs never becomes the truth
        elif before is not None:
            removed = [layer for layer, retained in comparable.items() if hour[1] < retained]
            revised = verdict.with_digests_of(before, row, removed)
        if (chained := verdicts.append(revised, rebuilt=hour in rebuilt)) is not None:
            yield chained


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
