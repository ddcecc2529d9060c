"""The seconds of an hour by the verdict on them, where an adapter judges continuity within each connection.

The time between two neighbouring records of a connection has the worse of their verdicts: what came before a suspect
record is missing. A connection's time up to its first state is not suspect but missing: nothing was lost in it, and
there is no state yet that its changes belong to. Where connections overlap, the best of them counts. Between the first
and the last record of a symbol, time without any connection is missing. Spark aggregates Gold to one row for each run
of equal verdicts.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers.gold import record_time
from k2.schemas.channels import Channel
from k2.schemas.states import Verdict

MISSING: Final = "missing"
SILENCE: Final = "silence"  # the longest time between two records of a symbol
_BEST_FIRST: Final = (*(verdict.value for verdict in Verdict), MISSING)
_LOSSES: Final = frozenset({Verdict.SUSPECT.value, MISSING})
_SECOND: Final = 1_000_000
_HOUR: Final = 3600 * _SECOND

Hour = tuple[str, int]  # a symbol, and the start of an hour in UTC microseconds


@dataclass(frozen=True, slots=True)
class Run:
    """A time, from `start` to `end` in UTC microseconds, in which a connection's records of a symbol have a verdict."""

    symbol: str
    start: int
    end: int
    verdict: str


def by_hour(rows: DataFrame, channel: Channel) -> dict[Hour, dict[str, int]]:
    """Return the seconds by verdict, and the longest silence, of each hour between records of a symbol in Gold."""
    hours = seconds(runs(rows, channel))
    for hour, silence in _silences(rows, channel).items():
        if hour in hours:
            hours[hour][SILENCE] = silence
    return hours


def runs(rows: DataFrame, channel: Channel) -> Iterator[Run]:
    """Yield the runs of rows of Gold, by symbol."""
    connection, ordinal = channel.identity
    order = Window.partitionBy("symbol", connection).orderBy(ordinal)
    verdict = F.col(channel.verdict_column)
    rank = F.when(verdict == _BEST_FIRST[0], 0).when(verdict == _BEST_FIRST[1], 1).otherwise(2)
    ranked = rows.select("symbol", connection, ordinal, _micros(channel).alias("at"), rank.alias("own"))
    between = ranked.select(
        "*",
        F.lag("at").over(order).alias("before"),
        F.lag(ordinal).over(order).alias("first"),
        F.greatest("own", F.lag("own").over(order)).alias("rank"),
    ).where("before IS NOT NULL")
    is_new = F.coalesce(F.col("rank") != F.lag("rank").over(order), F.lit(True)).cast("int")
    numbered = between.withColumn("is_new", is_new).withColumn("run", F.sum("is_new").over(order))
    grouped = numbered.groupBy("symbol", connection, "run").agg(
        F.min(F.least("before", "at")).alias("start"), F.max(F.greatest("before", "at")).alias("end"),
        F.max("rank").alias("rank"), F.min("first").alias("first"),
    )  # fmt: skip
    # Rows may begin within a connection, whose numbers begin at 1.
    first = F.min("first").over(Window.partitionBy(connection))
    is_stateless = (F.col("run") == 1) & (F.col("rank") == _BEST_FIRST.index(Verdict.SUSPECT.value)) & (first == 1)
    grouped = grouped.withColumn("rank", F.when(is_stateless, _BEST_FIRST.index(MISSING)).otherwise(F.col("rank")))
    for row in grouped.orderBy("symbol", "start").toLocalIterator():
        yield Run(row["symbol"], row["start"], row["end"], _BEST_FIRST[row["rank"]])


def _silences(rows: DataFrame, channel: Channel) -> dict[Hour, int]:
    """Return the longest time in seconds between two records, by the hour of the later one."""
    order = Window.partitionBy("symbol").orderBy("at")
    timed = rows.select("symbol", _micros(channel).alias("at"))
    waited = timed.select("symbol", "at", (F.col("at") - F.lag("at").over(order)).alias("waited"))
    hour = (F.col("at") - F.pmod("at", F.lit(_HOUR))).alias("hour")
    longest = waited.groupBy("symbol", hour).agg(F.max("waited").alias("waited")).where("waited IS NOT NULL")
    return {(row["symbol"], row["hour"]): row["waited"] // _SECOND for row in longest.collect()}


def _micros(channel: Channel) -> Column:
    return F.unix_micros(record_time(channel))


def seconds(ordered: Iterable[Run]) -> dict[Hour, dict[str, int]]:
    """Return the seconds by verdict of each hour; runs are in the order of their symbols.

    Begun seconds count as lost ones: those that are suspect or missing are rounded up, the others down.
    """
    micros: dict[Hour, dict[str, int]] = {}
    for symbol, of_symbol in groupby(ordered, key=lambda run: run.symbol):
        for start, end, verdict in _best(list(of_symbol)):
            for first, last in _split(start, end):
                of_hour = micros.setdefault((symbol, first - first % _HOUR), {})
                of_hour[verdict] = of_hour.get(verdict, 0) + last - first
    return {
        hour: {
            verdict: -(-spent // _SECOND) if verdict in _LOSSES else spent // _SECOND
            for verdict, spent in sorted(of_hour.items())
        }
        for hour, of_hour in micros.items()
    }


def _best(of_symbol: list[Run]) -> Iterator[tuple[int, int, str]]:
    """Yield times from the first to the last record of a symbol, each with the best verdict of any connection."""
    changes: dict[int, list[tuple[str, int]]] = {}
    for run in of_symbol:
        changes.setdefault(run.start, []).append((run.verdict, 1))
        changes.setdefault(run.end, []).append((run.verdict, -1))
    active = dict.fromkeys(_BEST_FIRST, 0)
    for start, end in pairwise(sorted(changes)):
        for verdict, change in changes[start]:
            active[verdict] += change
        yield start, end, next((verdict for verdict in _BEST_FIRST if active[verdict]), MISSING)


def _split(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a time, none of which goes beyond the hour in which it begins."""
    while start < end:
        next_hour = start - start % _HOUR + _HOUR
        yield start, min(end, next_hour)
        start = next_hour


def is_lossy(of_hour: Mapping[str, int]) -> bool:
    """Whether an hour has time in which records are missing."""
    return not _LOSSES.isdisjoint(of_hour)


def is_verified(of_hour: Mapping[str, int]) -> bool:
    """Whether an hour's time is verified, all of it."""
    return not is_lossy(of_hour) and Verdict.UNVERIFIABLE.value not in of_hour
