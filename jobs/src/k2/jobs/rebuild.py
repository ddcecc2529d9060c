"""`python -m k2.jobs.rebuild silver|gold --feed FILE`: build Silver again from Bronze, and Gold from Silver.

Each table is replaced by one commit, so readers see it before or after, and the snapshot of before has a tag. The
commit rewrites whole days and is no append: streams that read the table skip it, and history goes on, with the batches
that the guards of the queries know. What its source does not hold any more stays from the table of before.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common import logs
from k2.common.platform import Platform
from k2.common.schema_registry import Registry, SchemaCache
from k2.jobs import bootstrap
from k2.jobs.audit.rebuild import rows as rebuilt_rows
from k2.jobs.audit.since import parse_since
from k2.jobs.commit.appender import with_all_columns
from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.commit.lineage import NO_SNAPSHOT
from k2.jobs.commit.replacement import Replacement
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.feed_channels import feed_channels
from k2.jobs.layers import silver
from k2.jobs.spark import tables as spark_tables
from k2.jobs.spark.local_frames import local_frame
from k2.jobs.stream import GOLD, SILVER, CheckpointInUse, NotDrained, Stream, initial_state
from k2.schemas import tables, topics
from k2.schemas.channels import Channel, exchange_tables
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.snapshots import EXCHANGE, PRUNED, REBUILT
from k2.schemas.tables import Table
from k2.schemas.values import to_micros

log = logs.get("rebuild")

TAG: Final = "before-rebuild-"  # + time: the snapshot of a table before it was rebuilt

_POSITION: Final = ("topic", "partition", "offset")
_DAY: Final = timedelta(days=1)


class NotCaughtUp(RuntimeError):
    """A layer has not read all of the table before it, although it was drained: nothing is rebuilt."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was done with one table."""

    table: str
    exchange: str
    rows: int  # that were built again
    before: int  # rows that they have replaced
    stayed: int  # rows of before that their source does not hold any more, or that are older than asked for
    tag: str  # the name of the snapshot of before


class Rebuild:
    """Rebuilds the tables of one channel of an exchange. `feeds` are all feeds of the exchange that record it.

    `schemas` returns the writer schemas of a topic by id. Bronze rows that arrived before `since` are left out.
    """

    def __init__(
        self,
        spark: SparkSession,
        platform: Platform,
        feeds: Sequence[ExchangeFeed],
        channel: Channel,
        schemas: Callable[[str], Mapping[int, str]],
        since: datetime | None = None,
    ) -> None:
        self._spark = spark
        self._channel = channel
        self._exchange, self._label = feeds[0].spec.exchange, feeds[0].exchange_spec.label
        self._topics = [feed.topic(channel) for feed in feeds]
        self._schemas = schemas
        self._since = since
        self._streams = [
            Stream(spark, feed, platform, channel, layer, initial_state(feed, channel, layer))
            for layer in (SILVER, GOLD)
            for feed in feeds
        ]

    def run(self, layer: str) -> list[Rebuilt]:
        """Rebuild Silver and then Gold, or Gold alone; return what was done.

        Can be repeated, also after an interruption. Raises `CheckpointInUse` if a query runs, and `NotDrained`,
        `NotCaughtUp`, `BrokenCheckpoint` and `RegistryUnavailable`.
        """
        with self._stopped():
            done, first = [], None
            if layer == SILVER:
                rebuilt, first = self._rebuild_silver()
                done += rebuilt
            return done + self._rebuild_gold(first)

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        """Let the queries read everything, and keep them from running.

        What Gold had not read of Silver would reach it later as it was judged before.
        """
        with ExitStack() as locks:
            for stream in self._streams:
                locks.enter_context(stream.locked())
            for stream in self._streams:
                stream.drain()
                stream.await_drained()
            for stream in self._streams:
                if not self._has_caught_up(stream):
                    raise NotCaughtUp(f"{stream.name} has not read everything; stop all that writes, and repeat")
            yield

    def _has_caught_up(self, stream: Stream) -> bool:
        """Whether a query has committed all that it planned, and Gold all of Silver. Bronze may be ahead of Silver."""
        progress = stream.checkpoint.progress()
        if progress is not None and not progress.committed:
            return False
        if stream.layer == SILVER:
            return True
        position = None if progress is None else progress.end["snapshot_id"]
        for snapshot in SnapshotHistory(self._spark, self._channel.silver(self._exchange)).snapshots():
            if snapshot.id == position:
                return True
            if snapshot.operation == "append" and snapshot.rows:
                return False
        return True

    def _rebuild_silver(self) -> tuple[list[Rebuilt], date | None]:
        """Replace Silver's rows of which Bronze has the record; return the first day that may have others now."""
        table, channel = self._channel.silver(self._exchange), self._channel
        base = _snapshot(self._spark, table)
        stored = self._spark.table(table.identifier)
        limits = self._limits(stored)
        if not limits:
            return [], None
        bronze, _ = self._split(self._spark.table(channel.bronze(self._exchange).identifier), limits)
        inside, outside = self._split(stored, limits)
        by_topic = {row["topic"]: self._schemas(topics.in_kafka(row["topic"])) for row in _topics(bronze)}
        identity = list(channel.identity)
        gold = self._spark.table(channel.gold.identifier).where(F.col("exchange") == self._label)
        unexplained = gold.join(stored.select(*identity), identity, "left_anti")
        validated = rebuilt_rows.revalidated(bronze, channel, by_topic, self._label).persist()
        judged = rebuilt_rows.with_conflicts(validated, channel, outside, unexplained).persist()
        valid = with_all_columns(silver.records(judged, channel), table)
        time = F.col(table.partitions[0].column)
        span = _span(valid.select(time.alias("time")).unionByName(inside.select(time.alias("time"))))
        counts = valid.count(), inside.count()
        done = []
        if span is not None:
            first, last = span
            whole_days = (time >= _midnight(first)) & (time < _midnight(last + _DAY))
            rows = valid.unionByName(outside.where(whole_days).select(*valid.columns))
            done = [self._recorded(table, base, first, *counts, outside.count())]
            writer = rows.writeTo(table.identifier).option("fanout-enabled", "true")
            writer = writer.option("isolation-level", "serializable").option("validate-from-snapshot-id", str(base))
            for option, value in self._summary(done[0]).items():
                writer = writer.option(f"snapshot-property.{option}", value)
            writer.overwrite(whole_days)
        self._move_dead_letters(judged)
        judged.unpersist()
        validated.unpersist()
        return done, span[0] if span else None

    def _limits(self, stored: DataFrame) -> list[dict[str, Any]]:
        """Return the first and the last offset to judge again of each partition: what Bronze has and Silver has read.

        Every row that Silver has read is a record or a dead letter.
        """
        bronze = self._own(self._spark.table(self._channel.bronze(self._exchange).identifier))
        if self._since is not None:
            bronze = bronze.where(F.col("kafka_timestamp") >= F.lit(self._since))
        dead_letters = self._spark.table(tables.DEAD_LETTERS_TABLE.identifier).where(self._is_own_dead_letter())
        read = self._own(stored).select(*_POSITION).unionByName(dead_letters.select(*_POSITION))
        first = bronze.groupBy("topic", "partition").agg(F.min("offset").alias("first"))
        last = read.groupBy("topic", "partition").agg(F.max("offset").alias("last"))
        rows = first.join(last, ["topic", "partition"]).where("first <= last").collect()
        return [row.asDict() for row in rows]

    def _own(self, rows: DataFrame) -> DataFrame:
        conditions = [
            (F.col("topic") == topic) | F.col("topic").startswith(topics.remade(topic, "")) for topic in self._topics
        ]
        own = conditions[0]
        for condition in conditions[1:]:
            own |= condition
        return rows.where(own)

    def _is_own_dead_letter(self) -> Column:
        return (F.col("exchange") == self._label) & (F.col("channel") == self._channel.name)

    def _split(self, rows: DataFrame, limits: Sequence[Mapping[str, Any]]) -> tuple[DataFrame, DataFrame]:
        """Return the rows within the limits, and the others."""
        schema = "topic string, partition int, first bigint, last bigint"
        limit = F.broadcast(local_frame(self._spark, limits, schema))
        joined = rows.join(limit, ["topic", "partition"], "left")
        within = F.coalesce(F.col("offset").between(F.col("first"), F.col("last")), F.lit(False))
        return joined.where(within).select(*rows.columns), joined.where(~within).select(*rows.columns)

    def _move_dead_letters(self, judged: DataFrame) -> None:
        """Add what is no record any more, and delete what is one. Others stay as they were first rejected."""
        table = tables.DEAD_LETTERS_TABLE
        invalid = silver.dead_letters(judged, self._channel, self._label)
        own = self._spark.table(table.identifier).where(self._is_own_dead_letter()).select(*_POSITION)
        new = invalid.join(own, list(_POSITION), "left_anti").select(*invalid.columns)
        if not new.isEmpty():
            new.writeTo(table.identifier).option("fanout-enabled", "true").append()
        records = judged.where("error_category IS NULL").select(*_POSITION)
        if own.join(records, list(_POSITION), "left_semi").isEmpty():
            return

        def merge() -> None:
            matching = (F.col(f"{table.name}.exchange") == self._label) & (
                F.col(f"{table.name}.channel") == self._channel.name
            )
            for name in _POSITION:
                matching &= F.col(f"{table.name}.{name}") == F.col(f"record.{name}")
            records.alias("record").mergeInto(table.identifier, matching).whenMatched().delete().merge()

        retry_on_conflict(merge)

    def _rebuild_gold(self, first: date | None) -> list[Rebuilt]:
        """Replace Gold's rows of the days that Silver holds whole, from `first` or `since` on."""
        channel, day = self._channel, F.col("exchange_date")
        base = _snapshot(self._spark, channel.gold)
        pruned = SnapshotHistory(self._spark, channel.silver(self._exchange)).properties().get(PRUNED)
        starts = [datetime.fromisoformat(pruned).date()] if pruned else []
        starts += [first] if first else [self._since.date()] if self._since else []
        stored = self._spark.table(channel.gold.identifier)
        own = stored.where(F.col("exchange") == self._label)
        records = rebuilt_rows.deduplicated(self._spark.table(channel.silver(self._exchange).identifier), channel)
        stayed = 0
        if starts:
            stayed = own.where(day < F.lit(max(starts))).count()
            own, records = (rows.where(day >= F.lit(max(starts))) for rows in (own, records))
        records = records.persist()
        dates = records.select(day.alias("time")).unionByName(own.select(day.alias("time")))
        span = _span(dates)
        if span is None or base == NO_SNAPSHOT:
            return []
        days = [row["time"] for row in dates.distinct().collect()]
        done = self._recorded(channel.gold, base, span[0], records.count(), own.count(), stayed)
        rows = with_all_columns(records, channel.gold)
        replacement = Replacement(self._spark, channel.gold, self._label, base)
        replacement.commit(days, lambda one: rows.where(day == F.lit(one)), self._summary(done))
        records.unpersist()
        return [done]

    def _recorded(self, table: Table, base: int, first: date, count: int, before: int, stayed: int) -> Rebuilt:
        """Name the snapshot of before, and record the rebuild in the table: before the commit that replaces rows.

        An audit must be able to tell a rebuild from rows that were changed.
        """
        now = datetime.now(UTC)
        name = f"{TAG}{now:%Y%m%dT%H%M%S}"
        begin = to_micros(datetime(first.year, first.month, first.day, tzinfo=UTC))
        text = json.dumps({"at": to_micros(now), "first": begin, "rows": count, "stayed": stayed, "tag": name})
        key = rebuilt_key(self._label, self._channel)
        for statement in (
            f"CREATE TAG IF NOT EXISTS `{name}` AS OF VERSION {base}",
            f"SET TBLPROPERTIES ('{key}' = '{text}')",
        ):
            altered = f"ALTER TABLE {table.identifier} {statement}"
            retry_on_conflict(lambda altered=altered: self._spark.sql(altered))  # type: ignore[misc]
        log.info("rebuilding", table=table.name, rows=count, before=before, stayed=stayed)
        return Rebuilt(table.name, self._label, count, before, stayed, name)

    def _summary(self, done: Rebuilt) -> dict[str, str]:
        """Return the properties of the commit that replaces rows."""
        return {EXCHANGE: self._label, REBUILT: done.tag}


def _snapshot(spark: SparkSession, table: Table) -> int:
    """Return the id of a table's current snapshot: what is read later is compared with it at the commit."""
    newest = next(SnapshotHistory(spark, table).snapshots(), None)
    return newest.id if newest is not None else NO_SNAPSHOT


def rebuilt_key(label: str, channel: Channel) -> str:
    """Return the table property that records the newest rebuild of a channel of an exchange."""
    return f"{REBUILT}.{label}.{channel.name}"


def _topics(rows: DataFrame) -> list[Any]:
    return rows.select("topic").distinct().collect()


def _span(times: DataFrame) -> tuple[date, date] | None:
    """Return the first and the last day of some times; None without any."""
    day = F.to_date("time")
    (row,) = times.agg(F.min(day).alias("first"), F.max(day).alias("last")).collect()
    return None if row["first"] is None else (row["first"], row["last"])


def _midnight(day: date) -> Column:
    return F.lit(datetime(day.year, day.month, day.day, tzinfo=UTC))


def drop_tags(spark: SparkSession, rebuilt: Sequence[Table]) -> list[str]:
    """Drop the tags of all rebuilds of some tables, so that maintenance frees what they hold; return their names."""
    dropped = []
    for table in rebuilt:
        for name in sorted(SnapshotHistory(spark, table).refs()):
            if name.startswith(TAG):
                spark.sql(f"ALTER TABLE {table.identifier} DROP TAG `{name}`")
                dropped.append(f"{table.name}: {name}")
    return dropped


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild tables of some feeds; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.rebuild",
        description="Build Silver and Gold again, or Gold alone.",
        add_arguments=_add_arguments,
        work=_rebuild,
        failure="not everything is rebuilt; run it again",
        work_errors=(BrokenCheckpoint, CheckpointInUse, NotCaughtUp, NotDrained),
    ).run(argv)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layer", choices=(SILVER, GOLD), help="silver: Silver and then Gold")
    bootstrap.add_feeds(parser)
    parser.add_argument("--from", dest="since", default="", metavar="TIME", help="only what arrived since this time")
    parser.add_argument("--drop-old", action="store_true", help="instead, drop the tags of earlier rebuilds")


def _rebuild(arguments: argparse.Namespace, platform: Platform) -> int:
    feeds = bootstrap.read_feeds(arguments.feed)
    since = parse_since(arguments.since, datetime.now(UTC)) if arguments.since else None
    registry = Registry(platform.registry)
    by_origin: dict[tuple[str, Channel], list[ExchangeFeed]] = {}
    for feed, channel in feed_channels(feeds):
        by_origin.setdefault((feed.spec.exchange, channel), []).append(feed)
    with bootstrap.spark_session(platform, arguments, {"spark.sql.adaptive.enabled": "true"}) as spark:
        done: list[Any] = []
        for (exchange, channel), of_exchange in by_origin.items():
            spark_tables.ensure(spark, exchange_tables(exchange, [channel]))
            if arguments.drop_old:
                done += drop_tags(spark, [channel.silver(exchange), channel.gold])
                continue
            schemas = partial(_schemas, registry)
            rebuild = Rebuild(spark, platform, of_exchange, channel, schemas, since)
            done += [asdict(one) for one in rebuild.run(arguments.layer)]
    print(json.dumps(done, indent=2))
    return 0


def _schemas(registry: Registry, topic: str) -> Mapping[int, str]:
    return SchemaCache(registry, topics.subject(topic)).schemas()


if __name__ == "__main__":
    bootstrap.exit_process(main())
