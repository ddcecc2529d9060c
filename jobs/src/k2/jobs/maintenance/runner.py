"""`python -m k2.jobs.maintenance`: retention, compaction, tags, snapshot expiry and orphan files, while streams run.

Snapshots that a running or stopped reader still needs, according to its checkpoint, are kept. Exit code 1: a step
failed.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.commit import retry
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.jobs.feed_channels import feed_channels
from k2.jobs.maintenance import history, stream_positions, tags
from k2.jobs.maintenance.history import Limits
from k2.jobs.maintenance.stream_positions import Reader
from k2.jobs.spark import tables as spark_tables
from k2.jobs.spark.session import tables_in_s3
from k2.jobs.telemetry import error_summary
from k2.schemas import tables
from k2.schemas.channels import Channel, exchange_tables
from k2.schemas.feed.model import ExchangeFeed, Layers
from k2.schemas.snapshots import GOLD_SNAPSHOT, PRUNED
from k2.schemas.tables import Table
from k2.schemas.values import seconds

log = logs.get("maintenance")

_DEAD_LETTERS: Final = timedelta(days=30)
_BATCHES: Final = timedelta(days=90)
_CLOSED_AFTER: Final = timedelta(hours=1)  # a partition is compacted this long after its time ended
_FIRST: Final = 300.0  # seconds from the start to the first round
_INTERVAL: Final = 3600.0  # seconds
_TRIM_INTERVAL: Final = 60.0  # seconds
_TRIM_FROM: Final = 1.5  # histories are trimmed between rounds from this multiple of their size on
_ORPHAN_ROUNDS: Final = 24  # orphan files are removed every so many rounds: listing a whole warehouse is slow
_FAILURES: Final = (Py4JError, PySparkException)
_OPTIONS: Final = {
    "min-input-files": "5",
    "partial-progress.enabled": "true",
    "partial-progress.max-commits": "10",
    "rewrite-job-order": "bytes-asc",
    "max-concurrent-file-group-rewrites": "1",
}


class Maintenance:
    """Maintains the tables of some feeds. Of feeds of the same exchange, the longest retention applies.

    `channels` replaces the channels that the feeds record. Every driver of Gold maintains the shared tables. If two
    conflict, one of them skips the step until the next round. A driver knows only its own feeds: if feeds of one
    exchange run in separate applications with different retention of Bronze or Silver, the shorter one applies to both.
    """

    def __init__(
        self,
        spark: SparkSession,
        platform: Platform,
        feeds: Sequence[ExchangeFeed],
        channels: Iterable[Channel] | None = None,
    ) -> None:
        self._spark = spark
        self._checkpoints = platform.checkpoints
        # By default files are listed with Hadoop, which does not know the bucket.
        self._listing = {"prefix_listing": "true"} if tables_in_s3(platform) else {}
        self._recorded = feed_channels(feeds, channels)
        self._channels = list(dict.fromkeys(channel for _, channel in self._recorded))
        self._gold = [channel.gold for channel in self._channels]
        self._report: dict[str, dict[str, Any]] = {}
        self._errors: list[str] = []

    def run(self, *, now: datetime | None = None, orphans: bool = True) -> dict[str, Any]:
        """Run one round and return its report. A step that fails is in the report and does not stop the others."""
        now = now or datetime.now(UTC)
        self._report, self._errors = {}, []
        growing = self._growing()
        merged = (tables.INSTRUMENTS_TABLE, tables.GAPS_TABLE, tables.EVIDENCE_TABLE, tables.COMPLETENESS_TABLE)
        self._retain(now)
        for table in growing:
            self._step(table, "compacted_files", partial(self._compact, table, now))
        for gold in self._gold:
            self._step(gold, "new_tags", partial(tags.update, self._spark, gold, now))
        self._expire_all([*growing, *merged], now)
        if orphans:
            for table in [*growing, *merged]:
                self._step(table, "orphan_files", partial(self._remove_orphans, table))
        return {"tables": self._report, "errors": self._errors}

    def trim(self, *, now: datetime | None = None) -> dict[str, Any]:
        """Tag the hours of Gold that have ended, and expire snapshots of tables that have too many; report it.

        It runs each minute: with short triggers, the commits of an hour are more than a commit may write.
        """
        now = now or datetime.now(UTC)
        self._report, self._errors = {}, []
        for gold in self._gold:
            if not tags.has_last_hour(SnapshotHistory(self._spark, gold).refs(), now):
                self._step(gold, "new_tags", partial(tags.update, self._spark, gold, now))
        self._expire_all([table for table in self._growing() if self._is_large(table)], now)
        return {"tables": self._report, "errors": self._errors}

    def run_hourly(self, stop: threading.Event) -> None:
        """Run rounds until `stop` is set, in a thread of their own. An error ends the round, not the process."""
        rounds, due = 0, time.monotonic() + _FIRST
        while not stop.wait(_TRIM_INTERVAL):
            started = time.monotonic()
            is_round = started >= due
            try:
                report = self.run(orphans=rounds % _ORPHAN_ROUNDS == 1) if is_round else self.trim()
            except Exception:
                log.exception("maintenance failed, retrying later")
            else:
                if is_round or report["tables"] or report["errors"]:
                    log.info(
                        "maintenance done" if is_round else "history trimmed",
                        seconds=round(time.monotonic() - started, 1),
                        **report,
                    )
            if is_round:
                rounds, due = rounds + 1, time.monotonic() + _INTERVAL

    def _growing(self) -> list[Table]:
        """Return the tables that streams and commit log append to."""
        return [
            *(channel.bronze(exchange) for exchange, channel in self._layers()),
            *(channel.silver(exchange) for exchange, channel in self._layers()),
            tables.DEAD_LETTERS_TABLE,
            *self._gold,
            *(table for channel in self._channels for table in channel.derived),
            tables.BATCHES_TABLE,
        ]

    def _layers(self) -> dict[tuple[str, Channel], list[Layers]]:
        """Return the exchanges and channels, each with the layers of its feeds."""
        by_origin: dict[tuple[str, Channel], list[Layers]] = {}
        for feed, channel in self._recorded:
            by_origin.setdefault((feed.spec.exchange, channel), []).append(feed.spec.layers)
        return by_origin

    def _retain(self, now: datetime) -> None:
        longest = _DEAD_LETTERS
        for (exchange, channel), layers in self._layers().items():
            bronze = max(timedelta(seconds=seconds(layer.bronze.retention)) for layer in layers)
            silver = max(bronze, *(timedelta(seconds=seconds(layer.silver.retention)) for layer in layers))
            longest = max(longest, silver)
            self._prune(channel.bronze(exchange), _day(now - bronze), "kafka_timestamp")
            # A record can arrive long after its exchange time; it is kept as long as records that arrived with it.
            self._prune(channel.silver(exchange), _day(now - silver), channel.time_columns[-1], "bronze_timestamp")
        self._prune(tables.DEAD_LETTERS_TABLE, _day(now - longest), "dead_lettered_at")
        self._prune(tables.BATCHES_TABLE, _day(now - _BATCHES), "committed_at")

    def _prune(self, table: Table, before: datetime, *columns: str) -> None:
        self._step(table, "deleted_rows", partial(self._delete, table, before, columns))

    def _delete(self, table: Table, before: datetime, columns: Iterable[str]) -> int:
        old = " AND ".join(f"`{column}` < {_literal(before)}" for column in columns)
        rows = self._spark.table(table.identifier).where(old).count()
        if rows:
            # Set the property first: the audit must be able to tell deleted rows from missing ones.
            self._spark.sql(f"ALTER TABLE {table.identifier} SET TBLPROPERTIES ('{PRUNED}' = '{before.isoformat()}')")
            self._spark.sql(f"DELETE FROM {table.identifier} WHERE {old}")  # noqa: S608 - names and times of our own
        return rows

    def _compact(self, table: Table, now: datetime) -> int:
        strategy = "sort" if table.sort else "binpack"
        where = _closed(table, now - _CLOSED_AFTER)
        result = self._call(
            "rewrite_data_files", table, strategy=f"'{strategy}'", where=f'"{where}"', options=_map(_OPTIONS)
        )
        return int(result["rewritten_data_files_count"])

    def _limits(self, table: Table) -> Limits:
        return history.GOLD if table in self._gold else history.OTHERS

    def _is_large(self, table: Table) -> bool:
        """Whether the history of a table takes more than it should between two rounds, if its commits are alike."""
        snapshots = SnapshotHistory(self._spark, table)
        newest = next(snapshots.snapshots(), None)
        if newest is None:
            return False
        untagged = snapshots.count() - len(set(snapshots.refs().values()))
        return untagged * history.size(newest) > _TRIM_FROM * self._limits(table).size

    def _expire_all(self, expiring: Sequence[Table], now: datetime) -> None:
        if not expiring:
            return
        try:
            readers = stream_positions.readers(self._spark, self._checkpoints)
        except (ValueError, KeyError, IndexError, *_FAILURES) as error:
            self._add_error("no snapshots expired: the position of a reader cannot be read", error)
            return
        for table in expiring:
            self._step(table, "expired_snapshots", partial(self._expire, table, readers, now))

    def _expire(self, table: Table, readers: Iterable[Reader], now: datetime) -> int:
        snapshot_history = SnapshotHistory(self._spark, table)
        snapshots, referenced = list(snapshot_history.snapshots()), set(snapshot_history.refs().values())
        limits = self._limits(table)
        rebuilds = stream_positions.rebuilds(snapshot_history.refs())
        positions = [*readers, *self._bars_position(table), *rebuilds]
        needed, reader = stream_positions.snapshots_needed(positions, snapshots)
        expired = {snapshot.id for snapshot in history.too_old(snapshots, needed, (now - limits.age).timestamp())}
        settled = (now - limits.settled).timestamp()
        large = history.too_large(snapshots, needed, limits.size, settled, referenced)
        expired |= {snapshot.id for snapshot in (self._logged(large) if table in self._gold else large)}
        expired -= referenced
        if needed > history.MIN_SNAPSHOTS:
            self._report.setdefault(table.name, {})["held_by"] = reader
        if expired:
            self._expire_snapshots(snapshot_history, expired)
        return len(expired)

    def _expire_snapshots(self, snapshot_history: SnapshotHistory, ids: set[int]) -> None:
        try:
            snapshot_history.expire(ids)
        except _FAILURES as error:
            # For snapshots that another driver has just expired, Iceberg reports only a negative size.
            if ids <= {snapshot.id for snapshot in snapshot_history.snapshots()}:
                raise
            raise retry.CommitConflict from error

    def _bars_position(self, table: Table) -> Iterator[Reader]:
        """Yield the position of the bars in Gold, which are rebuilt as a whole if the snapshots since have expired."""
        if table is not tables.GOLD_TABLE or tables.BARS_TABLE not in self._growing():
            return
        for snapshot in SnapshotHistory(self._spark, tables.BARS_TABLE).snapshots():
            if (gold := snapshot.summary.get(GOLD_SNAPSHOT)) is not None:
                yield Reader("bars", int(gold), int(gold))
                return

    def _logged(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Return those of some snapshots that are in `audit_batches`, or of no query."""
        commits = [snapshot for snapshot in snapshots if snapshot.query_id]
        if not commits:
            return list(snapshots)
        since = datetime.fromtimestamp(min(snapshot.committed_at for snapshot in commits), UTC)
        log_rows = self._spark.table(tables.BATCHES_TABLE.identifier).where(f"committed_at >= {_literal(since)}")
        ids = {row[0] for row in log_rows.select("snapshot_id").collect()}
        return [snapshot for snapshot in snapshots if not snapshot.query_id or snapshot.id in ids]

    def _remove_orphans(self, table: Table) -> int:
        return len(self._spark.sql(_statement("remove_orphan_files", table, **self._listing)).collect())

    def _call(self, procedure: str, table: Table, **arguments: str) -> Any:
        return self._spark.sql(_statement(procedure, table, **arguments)).collect()[0]

    def _step(self, table: Table, name: str, act: Callable[[], int]) -> None:
        try:
            done = act()
        except (retry.CommitConflict, *_FAILURES) as error:
            if retry.is_conflict(error):  # another driver or a stream changed the same files
                log.info("commit conflict, retrying in the next round", table=table.name, step=name)
                self._report.setdefault(table.name, {})[name] = "conflict"
            else:
                self._add_error(f"{table.name}: {name}", error)
        else:
            if done:
                self._report.setdefault(table.name, {})[name] = done

    def _add_error(self, step: str, error: BaseException) -> None:
        log.error("maintenance step failed", step=step, error=str(error)[:2000])
        self._errors.append(f"{step}: {error_summary.first_line(error)}")


def _closed(table: Table, until: datetime) -> str:
    """Return the filter for rows of partitions that ended before `until`."""
    columns, day = [partition.column for partition in table.partitions], f"DATE '{until:%Y-%m-%d}'"
    if "exchange_hour" in columns:
        return f"exchange_date < {day} OR (exchange_date = {day} AND exchange_hour < {until.hour})"
    if "exchange_date" in columns:
        return f"exchange_date < {day}"
    return f"`{columns[0]}` < {_literal(_day(until))}"


def _day(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _literal(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"


def _map(options: Mapping[str, str]) -> str:
    entries = ", ".join(f"'{key}', '{value}'" for key, value in options.items())
    return f"map({entries})"


def _statement(procedure: str, table: Table, **arguments: str) -> str:
    parts = [f"table => '{table.identifier}'", *(f"{name} => {value}" for name, value in arguments.items())]
    return f"CALL {tables.CATALOG}.system.{procedure}({', '.join(parts)})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one round for some feeds; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.maintenance",
        description="Run one round of table maintenance.",
        add_arguments=bootstrap.add_feeds,
        work=_maintain,
    ).run(argv)


def _maintain(arguments: argparse.Namespace, platform: Platform) -> int:
    feeds = bootstrap.read_feeds(arguments.feed)
    with bootstrap.reading_catalog(), bootstrap.spark_session(platform, arguments) as spark:
        own = [table for feed in feeds for table in exchange_tables(feed.spec.exchange, feed.channels)]
        spark_tables.ensure(spark, {table.name: table for table in own}.values())
        report = Maintenance(spark, platform, feeds).run()
    print(json.dumps(report, indent=2))
    return 1 if report["errors"] else 0
