"""Replaces the rows that one exchange has in some days of a table that exchanges share, in one commit.

Compaction puts the rows of several exchanges into one file, and Iceberg replaces files, not rows: the files with rows
of the exchange are written again, with the other exchanges' rows as they are, and swapped. Only what touches those
files or adds rows of the exchange is a conflict, so the other exchanges' layers go on.

Files are written a day at a time and committed together. Where compaction has rewritten some of them meanwhile, which
changes no row, those days are written again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from uuid import uuid4

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common import logs
from k2.jobs.commit import retry
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.tables import Table

log = logs.get("replacement")

REBUILD: Final = "rebuild"  # of the tag that keeps the history since the base, by which Iceberg validates the commit

_CACHE: Final = "org.apache.iceberg.spark.SparkTableCache"
_ATTEMPTS: Final = 10
_GONE: Final = "Missing required files to delete"  # Iceberg's words for a file that another commit has replaced
_DAY: Final = timedelta(days=1)
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class _Staged:
    """The files of one day: those to replace, by path, and those that replace them. Both are Java's."""

    replaced: Mapping[str, Any]
    added: tuple[Any, ...]


class Replacement:
    """Replaces rows of one exchange since a base snapshot of a table that is partitioned by `exchange_date`."""

    def __init__(self, spark: SparkSession, table: Table, exchange: str, base: int) -> None:
        self._spark = spark
        self._jvm: Any = spark._jvm  # noqa: SLF001 - pyspark has no public way to Iceberg's API
        self._table = table
        self._exchange = exchange
        self._base = base
        self._history = SnapshotHistory(spark, table)
        self._staged: dict[date, _Staged] = {}

    def commit(self, days: Iterable[date], rows_of: Callable[[date], DataFrame], properties: Mapping[str, str]) -> None:
        """Replace the exchange's rows of some days by those that `rows_of` gives for each.

        Raises Java's error if rows of the exchange were added or changed since the base: nothing is replaced then.
        """
        asked = sorted(set(days))
        try:
            with self._history.held(self._base, REBUILD):
                for attempt in range(1, _ATTEMPTS + 1):
                    self._stage(asked, rows_of)
                    try:
                        self._swap(asked, properties)
                    except retry.ERRORS as error:
                        if _GONE not in str(error) or attempt == _ATTEMPTS:
                            self._staged = {}  # it may have been made: orphan files are for maintenance to remove
                            raise
                        log.info("files were compacted meanwhile, writing their days again", table=self._table.name)
                    else:
                        self._staged = {}
                        return
        finally:
            for day in list(self._staged):
                self._discard(day)

    def _stage(self, days: list[date], rows_of: Callable[[date], DataFrame]) -> None:
        """Write the files of each day whose present files are not those that were replaced so far."""
        java_table = self._history.java_table()
        snapshot = java_table.currentSnapshot().snapshotId()
        present = self._present(java_table, days)
        for day in days:
            files = present.get(day, {})
            if day in self._staged and self._staged[day].replaced.keys() == files.keys():
                continue
            self._discard(day)
            rows = rows_of(day).unionByName(self._others(snapshot, day, files), allowMissingColumns=True)
            self._staged[day] = _Staged(files, self._write(java_table, rows))

    def _present(self, java_table: Any, days: list[date]) -> dict[date, dict[str, Any]]:
        """Return the files that hold rows of the exchange by their statistics, by day and path."""
        by_day: dict[date, dict[str, Any]] = {}
        if not days:
            return by_day
        integer = self._jvm.java.lang.Class.forName("java.lang.Integer")
        tasks = java_table.newScan().filter(self._filter(days)).planFiles()
        try:
            for task in tasks.iterator():
                file = task.file()
                day = _EPOCH + _DAY * int(file.partition().get(0, integer))
                by_day.setdefault(day, {})[str(file.location())] = file
        finally:
            tasks.close()
        return by_day

    def _filter(self, days: list[date]) -> Any:
        """Return Iceberg's filter for the exchange's rows from the first to the last of some days."""
        build = self._jvm.org.apache.iceberg.expressions.Expressions
        first = build.greaterThanOrEqual("exchange_date", days[0].isoformat())
        last = build.lessThanOrEqual("exchange_date", days[-1].isoformat())
        both = getattr(build, "and")
        return both(both(first, last), build.equal("exchange", self._exchange))

    def _others(self, snapshot: int, day: date, files: Mapping[str, Any]) -> DataFrame:
        """Return the rows of other exchanges in some files of a day."""
        stored = self._spark.read.option("versionAsOf", str(snapshot)).table(self._table.identifier)
        paths = local_frame(self._spark, [{"path": path} for path in files], "path string")
        rows = stored.where((F.col("exchange_date") == F.lit(day)) & (F.col("exchange") != self._exchange))
        named = rows.select("*", F.col("_file").alias("path"))
        return named.join(F.broadcast(paths), "path", "left_semi").select(*stored.columns)

    def _write(self, java_table: Any, rows: DataFrame) -> tuple[Any, ...]:
        """Write rows as files that belong to no snapshot yet, as Iceberg's compaction does."""
        group = str(uuid4())
        cache, coordinator = self._cache(), self._jvm.org.apache.iceberg.spark.FileRewriteCoordinator.get()
        columns = self._spark.table(self._table.identifier).columns
        partitions = [partition.column for partition in self._table.partitions]
        ordered = rows.select(*columns).repartition(*partitions).sortWithinPartitions(*partitions, *self._table.sort)
        cache.add(group, java_table)
        try:
            writer = ordered.write.format("iceberg").option("use-table-distribution-and-ordering", "false")
            writer.mode("append").save(group)
            return tuple(coordinator.fetchNewFiles(java_table, group))
        finally:
            coordinator.clearRewrite(java_table, group)
            cache.remove(group)

    def _cache(self) -> Any:
        """Return Iceberg's cache of tables that are written by name; py4j takes its static `get` for the other one."""
        gateway: Any = self._spark.sparkContext._gateway  # noqa: SLF001
        java = self._jvm.java.lang
        loader = java.Thread.currentThread().getContextClassLoader()
        get = loader.loadClass(_CACHE).getMethod("get", gateway.new_array(java.Class, 0))
        return get.invoke(None, gateway.new_array(java.Object, 0))

    def _swap(self, days: list[date], properties: Mapping[str, str]) -> None:
        change = self._history.java_table().newOverwrite().validateFromSnapshot(self._base)
        change = change.conflictDetectionFilter(self._filter(days)) if days else change
        change = change.validateNoConflictingData().validateNoConflictingDeletes()
        for staged in self._staged.values():
            for file in staged.replaced.values():
                change = change.deleteFile(file)
            for file in staged.added:
                change = change.addFile(file)
        for key, value in properties.items():
            change = change.set(key, value)
        change.commit()

    def _discard(self, day: date) -> None:
        """Delete the files that were written for a day and that no commit has added."""
        staged = self._staged.pop(day, None)
        if staged is None:
            return
        files = self._history.java_table().io()
        for file in staged.added:
            files.deleteFile(str(file.location()))
