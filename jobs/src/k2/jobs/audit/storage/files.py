"""The files that a snapshot of a table needs, compared with those that are stored.

A lost or cut file is a finding of its own, with its name: read by Spark it would be a Java error, and its rows would
be missing in every other check.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.incremental.file_sets import LiveFile
from k2.jobs.audit.storage import manifests
from k2.jobs.commit import retry
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.spark.filesystem import hadoop_path
from k2.jobs.telemetry import error_summary
from k2.schemas.tables import Table
from k2.schemas.values import from_micros

MOST: Final = 100  # findings of one table
_MOST_READ: Final = 1000  # files that are read one by one

_LOCAL: Final = re.compile(r"^file:/+")
_HOUR: Final = 3_600_000_000
_SYMBOLS: Final = {"symbol": "symbol", "key": "symbol"}  # Bronze is not decoded: its rows have the symbol as a key
_TIME_COLUMNS: Final = ("timestamp", "kafka_timestamp", "open_time", "hour", "committed_at", "detected_at")

_STORED_AT: Final = ("dead_lettered_at", "received_at", "valid_from")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a snapshot needs. `size` is in bytes; None if the metadata does not tell."""

    path: str
    kind: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that is lost or has another size.

    `first` and `last` are the lowest and highest values of its rows, by column, as far as its metadata have them.
    """

    path: str
    check: str
    problem: str
    first: Mapping[str, Any]
    last: Mapping[str, Any]

    def only(self, column: str) -> str:
        """Return the value of a column if all rows have the same; otherwise an empty text."""
        value = self.first.get(column)
        return str(value) if value is not None and value == self.last.get(column) else ""

    @property
    def hour(self) -> str:
        """The hour (UTC) of the rows if it is one; otherwise an empty text."""
        hours = {hour for bounds in (self.first, self.last) if (hour := _hour(bounds)) is not None}
        return f"{from_micros(hours.pop()):%Y-%m-%dT%H:00Z}" if len(hours) == 1 else ""

    @property
    def text(self) -> str:
        """What is wrong with which file, and which rows it has."""
        return f"{self.problem}: {self.path}{self._rows()}"

    def _rows(self) -> str:
        parts = [_range(self.first[name], self.last[name]) for name in ("exchange", "symbol") if name in self.first]
        first, last = _hour(self.first), _hour(self.last)
        if first is not None and last is not None:
            parts.append(_range(*(f"{from_micros(hour):%Y-%m-%dT%H:00Z}" for hour in (first, last))))
        return f" with rows of {', '.join(parts)}" if parts else ""


def _range(first: Any, last: Any) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _hour(bounds: Mapping[str, Any]) -> int | None:
    at = next((bounds[name] for name in _TIME_COLUMNS if bounds.get(name) is not None), None)
    return None if at is None else int(at) - int(at) % _HOUR


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The damaged files of a snapshot, and all its data and delete files, if its metadata are whole."""

    damaged: list[DamagedFile]
    live: list[LiveFile] | None = None


def record_times(table: Table) -> tuple[str, ...]:
    """Return the columns of a table that say when its rows are from."""
    names = {column.name for column in table.columns}
    return tuple(name for name in (*_TIME_COLUMNS, *_STORED_AT) if name in names)[:1]


def stored(spark: SparkSession, table: Table, snapshot_id: int) -> StoredFiles:
    """Return the files of a snapshot. Damaged are its manifest list, or its manifests, or else data and delete files.

    Raises errors of Spark for metadata that cannot be read.
    """
    java_table = SnapshotHistory(spark, table).java_table()
    io, snapshot = java_table.io(), java_table.snapshot(snapshot_id)
    sizes = _Sizes(io, str(java_table.location()))
    manifest_list = StoredFile(str(snapshot.manifestListLocation()), "manifest list")
    if problems := list(_damaged([manifest_list], sizes.of)):
        return StoredFiles(problems)
    listed = [StoredFile(str(one.path()), "manifest", int(one.length())) for one in snapshot.allManifests(io)]
    if problems := list(_damaged(listed, sizes.of)):
        return StoredFiles(problems)
    live = [
        replace(file, written_at=sizes.written_at(file.path))
        for file in manifests.live_files(spark, table, java_table, snapshot, record_times(table))
    ]
    problems = list(_damaged(live, sizes.of))[:MOST]
    return StoredFiles(_with_bounds(_files(spark, table, snapshot_id), problems) if problems else [], live)


def unreadable(spark: SparkSession, table: Table, snapshot_id: int) -> list[DamagedFile]:
    """Return the data files of a snapshot of which Spark cannot read every value: reads one after the other."""
    files = _files(spark, table, snapshot_id)
    problems = []
    for path in [row[0] for row in files.where("content = 0").select("file_path").limit(_MOST_READ).collect()]:
        try:
            spark.read.parquet(hadoop_path(path)).write.format("noop").mode("overwrite").save()
        except retry.ERRORS as error:
            reason = error_summary.summarize(error_summary.full_text(error))
            problems.append(DamagedFile(path, "file_unreadable", f"a data file cannot be read ({reason})", {}, {}))
    return _with_bounds(files, problems) if problems else []


def _files(spark: SparkSession, table: Table, snapshot_id: int) -> DataFrame:
    return spark.sql(f"SELECT * FROM {table.identifier}.files VERSION AS OF {snapshot_id}")  # noqa: S608 - our own


def _damaged(files: Iterable[StoredFile | LiveFile], size_of: Callable[[str], int | None]) -> Iterator[DamagedFile]:
    for file in files:
        size = size_of(file.path)
        if size is None:
            yield DamagedFile(file.path, "file_missing", f"a {file.kind} is missing", {}, {})
        elif size != (size if file.size is None else file.size):
            problem = f"a {file.kind} has {size} bytes instead of {file.size}"
            yield DamagedFile(file.path, "file_changed", problem, {}, {})


def _with_bounds(files: DataFrame, problems: Iterable[DamagedFile]) -> list[DamagedFile]:
    """Return damaged files with what the metadata say about their rows."""
    by_path = {problem.path: problem for problem in problems}
    metrics: Any = files.schema["readable_metrics"].dataType
    names = [name for name in ("exchange", *_SYMBOLS, *_TIME_COLUMNS) if name in metrics.fieldNames()]
    bounds = [
        F.struct(*(_bound(name, bound) for name in names)).alias(bound) for bound in ("lower_bound", "upper_bound")
    ]
    for row in files.where(F.col("file_path").isin(*by_path)).select("file_path", *bounds).collect():
        lower, upper = (
            {name: value for name, value in row[bound].asDict().items() if value is not None}
            for bound in ("lower_bound", "upper_bound")
        )
        problem = by_path[row["file_path"]]
        by_path[problem.path] = DamagedFile(problem.path, problem.check, problem.problem, lower, upper)
    return list(by_path.values())


def _bound(name: str, bound: str) -> Any:
    value = F.col(f"readable_metrics.{name}.{bound}")
    return (F.unix_micros(value) if name in _TIME_COLUMNS else value.cast("string")).alias(_SYMBOLS.get(name, name))


class _Sizes:
    """The sizes of the files of a table, by a listing of its folder; files elsewhere are asked for one by one."""

    def __init__(self, io: Any, location: str) -> None:
        self._io = io
        self._listed = dict(_local(location) if _LOCAL.match(location) else _listed(io, location))

    def of(self, path: str) -> int | None:
        """Return the size of a file in bytes; None if it does not exist."""
        listed = self._listed.get(_normalised(path))
        if listed is not None:
            return listed[0]
        file = self._io.newInputFile(path)
        return int(file.getLength()) if file.exists() else None

    def written_at(self, path: str) -> int | None:
        """Return when a file was written, in UTC microseconds; None if the listing does not have it."""
        listed = self._listed.get(_normalised(path))
        return None if listed is None else listed[1]


def _normalised(path: str) -> str:
    return _LOCAL.sub("/", path)


def _local(location: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for folder, _, names in os.walk(_normalised(location)):
        for name in names:
            with suppress(FileNotFoundError):  # expiry deletes files meanwhile
                status = Path(folder, name).stat()
                yield f"{folder}/{name}", (status.st_size, status.st_mtime_ns // 1000)


def _listed(io: Any, location: str) -> Iterator[tuple[str, tuple[int, int]]]:
    entries = io.listPrefix(location.rstrip("/") + "/").iterator()
    while entries.hasNext():
        entry = entries.next()
        yield _normalised(str(entry.location())), (int(entry.size()), int(entry.createdAtMillis()) * 1000)
