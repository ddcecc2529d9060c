"""Cache the manifests of tables in memory: a manifest is immutable, so each is read once.

Between two commits a query reads no metadata, and the cost of pruning grows with the hours that it asks for, not with
the age of the table.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from pyiceberg.expressions import And, GreaterThanOrEqual, IsNull, LessThan, Or, Reference
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile, PartitionFieldSummary
from pyiceberg.table import ManifestGroupPlanner

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import ManifestEntry
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

MAX_FILES: Final = 20_000  # files in the cache, at about 5 kB each
_MAX_MANIFEST_LISTS: Final = 16
# Of Gold and of its bars: the columns that exchange_date and exchange_hour derive from.
_TIME_COLUMNS: Final = ("timestamp", "start")
_DATE_COLUMN: Final = "exchange_date"
_HOUR_COLUMN: Final = "exchange_hour"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_HOUR: Final = timedelta(hours=1)

HourRange = tuple[float, float]  # hours since 1970, first and last; infinite where there is no bound
ALL_HOURS: Final[HourRange] = (-inf, inf)


class ManifestCache:
    """The manifests of any number of tables, least recently used first out. Thread-safe."""

    def __init__(self, max_files: int = MAX_FILES) -> None:
        self._max_files = max_files
        self._lists: OrderedDict[str, list[tuple[HourRange, ManifestFile]]] = OrderedDict()
        self._entries: OrderedDict[str, list[tuple[HourRange, ManifestEntry]]] = OrderedDict()
        self._count = 0
        self._lock = Lock()

    def files(self, table: Table, snapshot: Snapshot, where: BooleanExpression) -> list[DataFile] | None:
        """Return the files of a snapshot that may hold rows `where`; None if it has delete files."""
        manifests = self._manifests(table, snapshot)
        if any(manifest.content == ManifestContent.DELETES for _, manifest in manifests):
            return None
        query_hours = hour_range(where)
        entries_by_spec: dict[int, list[ManifestEntry]] = {}
        for manifest_hours, manifest in manifests:
            if _overlap(manifest_hours, query_hours):
                matching = [
                    entry for file_hours, entry in self._read(table, manifest) if _overlap(file_hours, query_hours)
                ]
                entries_by_spec.setdefault(manifest.partition_spec_id, []).extend(matching)
        planner = ManifestGroupPlanner(table.metadata, table.io, where)
        cached = [
            cast("ManifestFile", _CachedManifest(spec_id, entries)) for spec_id, entries in entries_by_spec.items()
        ]
        return [entry.data_file for entries in planner.plan_manifest_entries(cached) for entry in entries]

    def _manifests(self, table: Table, snapshot: Snapshot) -> list[tuple[HourRange, ManifestFile]]:
        path = snapshot.manifest_list
        with self._lock:
            if (cached := self._lists.get(path)) is not None:
                self._lists.move_to_end(path)
                return cached
        layouts = {spec_id: _PartitionLayout.of(spec) for spec_id, spec in table.specs().items()}
        loaded = [
            (layouts[manifest.partition_spec_id].of_manifest(manifest), manifest)
            for manifest in snapshot.manifests(table.io)
        ]
        with self._lock:
            self._lists[path] = loaded
            while len(self._lists) > _MAX_MANIFEST_LISTS:
                self._lists.popitem(last=False)
        return loaded

    def _read(self, table: Table, manifest: ManifestFile) -> list[tuple[HourRange, ManifestEntry]]:
        path = manifest.manifest_path
        with self._lock:
            if (cached := self._entries.get(path)) is not None:
                self._entries.move_to_end(path)
                return cached
        layout = _PartitionLayout.of(table.specs()[manifest.partition_spec_id])
        loaded = [(layout.of_file(entry.data_file), entry) for entry in manifest.fetch_manifest_entry(table.io)]
        with self._lock:
            if path not in self._entries:
                self._entries[path] = loaded
                self._count += len(loaded)
            while self._count > self._max_files and len(self._entries) > 1:
                _, evicted = self._entries.popitem(last=False)
                self._count -= len(evicted)
        return loaded


def hour_range(where: BooleanExpression, time_columns: Collection[str] = _TIME_COLUMNS) -> HourRange:
    """Return the hours outside of which no matching record or bar can be."""
    match where:
        case And(left=IsNull(term=Reference(name=name)), right=right) if name in time_columns:
            # A record's time is its first time that is not null: here the one that `right` compares first.
            return hour_range(right, {_first_column(right)})
        case And(left=left, right=right):
            (first, last), (other_first, other_last) = hour_range(left, time_columns), hour_range(right, time_columns)
            return max(first, other_first), min(last, other_last)
        case Or(left=left, right=right):
            (first, last), (other_first, other_last) = hour_range(left, time_columns), hour_range(right, time_columns)
            return min(first, other_first), max(last, other_last)
        case GreaterThanOrEqual(term=Reference(name=name)) if name in time_columns:
            return _hours_since_epoch(where.literal.value), inf
        case LessThan(term=Reference(name=name)) if name in time_columns:
            return -inf, _hours_since_epoch(where.literal.value)
    return ALL_HOURS


def _first_column(where: BooleanExpression) -> str:
    """Return the column of a comparison, or of the first one of an `Or`."""
    while isinstance(where, Or):
        where = where.left
    match where:
        case GreaterThanOrEqual(term=Reference(name=name)) | LessThan(term=Reference(name=name)):
            return name
    return ""


@dataclass(frozen=True, slots=True)
class _PartitionLayout:
    """The positions of date and hour in a partition spec, if it has them."""

    date: int | None
    hour: int | None

    @classmethod
    def of(cls, spec: PartitionSpec) -> _PartitionLayout:
        names = [field.name for field in spec.fields]
        date, hour = (names.index(name) if name in names else None for name in (_DATE_COLUMN, _HOUR_COLUMN))
        return cls(date, hour)

    def of_file(self, file: DataFile) -> HourRange:
        """Return the hours of a file's rows."""
        day = file.partition[self.date] if self.date is not None else None
        hour = file.partition[self.hour] if self.hour is not None else None
        return _to_hour_range(day, day, hour, hour)

    def of_manifest(self, manifest: ManifestFile) -> HourRange:
        """Return the hours of the rows of all its files."""
        if not manifest.partitions:
            return ALL_HOURS
        days, times = (manifest.partitions[at] if at is not None else None for at in (self.date, self.hour))
        return _to_hour_range(*_bounds(days), *_bounds(times))


class _CachedManifest:
    """The part of a manifest that PyIceberg's planner uses, with its entries already read."""

    content: Final = ManifestContent.DATA
    partitions: Final = None
    min_sequence_number: Final = 0

    def __init__(self, spec_id: int, entries: list[ManifestEntry]) -> None:
        self.partition_spec_id = spec_id
        self._entries = entries

    def fetch_manifest_entry(self, io: FileIO, discard_deleted: bool = True) -> Iterator[ManifestEntry]:
        """Return the entries that may match."""
        del io, discard_deleted
        return iter(self._entries)


def _to_hour_range(
    first_day: int | None, last_day: int | None, first_hour: int | None, last_hour: int | None
) -> HourRange:
    """Return the hours from the first to the last day; on a single day, from its first to its last hour."""
    if first_day is None or last_day is None:
        return ALL_HOURS
    if first_hour is None or last_hour is None or first_day != last_day:
        first_hour, last_hour = 0, 23
    return first_day * 24 + first_hour, last_day * 24 + last_hour


def _bounds(summary: PartitionFieldSummary | None) -> tuple[int | None, int | None]:
    if summary is None or summary.contains_null or summary.lower_bound is None or summary.upper_bound is None:
        return None, None
    first, last = (int.from_bytes(bound, "little", signed=True) for bound in (summary.lower_bound, summary.upper_bound))
    return first, last


def _overlap(first: HourRange, second: HourRange) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]


def _hours_since_epoch(moment: Any) -> int:
    return int((datetime.fromisoformat(moment) - _EPOCH) // _ONE_HOUR)
