"""What the manifests of a table list, kept in memory: a manifest never changes, so each is read once.

Between two commits a question then costs no read of metadata, and what it costs to prune grows with the hours that it
asks for, not with the age of the table.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan, Or, Reference
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile, PartitionFieldSummary
from pyiceberg.table import ManifestGroupPlanner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import ManifestEntry
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

MOST: Final = 20_000  # files that are remembered, at about 5 kB each
_LISTS: Final = 16
_TIMES: Final = ("timestamp", "start")  # Gold's and its bars': what lies in exchange_date and exchange_hour
_DATE: Final = "exchange_date"
_HOUR: Final = "exchange_hour"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AN_HOUR: Final = timedelta(hours=1)

Hours = tuple[float, float]  # since 1970, from the first to the last; infinite where there is no bound
ALWAYS: Final[Hours] = (-inf, inf)


class Manifests:
    """The manifests of any tables. Several threads may use one."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lists: OrderedDict[str, list[tuple[Hours, ManifestFile]]] = OrderedDict()
        self._entries: OrderedDict[str, list[tuple[Hours, ManifestEntry]]] = OrderedDict()
        self._count = 0
        self._lock = Lock()

    def files(self, table: "Table", snapshot: "Snapshot", where: "BooleanExpression") -> "list[DataFile] | None":
        """The files of a snapshot that may hold rows `where`; None if rows were deleted apart from the files."""
        manifests = self._manifests(table, snapshot)
        if any(manifest.content == ManifestContent.DELETES for _, manifest in manifests):
            return None
        asked = hours(where)
        found: dict[int, list[ManifestEntry]] = {}
        for lying, manifest in manifests:
            if _meet(lying, asked):
                some = [entry for lies, entry in self._read(table, manifest) if _meet(lies, asked)]
                found.setdefault(manifest.partition_spec_id, []).extend(some)
        planner = ManifestGroupPlanner(table.metadata, table.io, where)
        known = [cast("ManifestFile", _Known(spec_id, entries)) for spec_id, entries in found.items()]
        return [entry.data_file for entries in planner.plan_manifest_entries(known) for entry in entries]

    def _manifests(self, table: "Table", snapshot: "Snapshot") -> list[tuple[Hours, ManifestFile]]:
        path = snapshot.manifest_list
        with self._lock:
            if (known := self._lists.get(path)) is not None:
                self._lists.move_to_end(path)
                return known
        lying = {spec_id: _Lying.of(spec) for spec_id, spec in table.specs().items()}
        read = [(lying[one.partition_spec_id].of_manifest(one), one) for one in snapshot.manifests(table.io)]
        with self._lock:
            self._lists[path] = read
            while len(self._lists) > _LISTS:
                self._lists.popitem(last=False)
        return read

    def _read(self, table: "Table", manifest: ManifestFile) -> "list[tuple[Hours, ManifestEntry]]":
        path = manifest.manifest_path
        with self._lock:
            if (known := self._entries.get(path)) is not None:
                self._entries.move_to_end(path)
                return known
        lying = _Lying.of(table.specs()[manifest.partition_spec_id])
        read = [(lying.of_file(entry.data_file), entry) for entry in manifest.fetch_manifest_entry(table.io)]
        with self._lock:
            if path not in self._entries:
                self._entries[path] = read
                self._count += len(read)
            while self._count > self._most and len(self._entries) > 1:
                _, forgotten = self._entries.popitem(last=False)
                self._count -= len(forgotten)
        return read


def hours(where: "BooleanExpression") -> Hours:
    """Outside of which no trade can be, and no bar, of those that are wanted."""
    match where:
        case And(left=left, right=right):
            (first, last), (begin, end) = hours(left), hours(right)
            return max(first, begin), min(last, end)
        case Or(left=left, right=right):
            (first, last), (begin, end) = hours(left), hours(right)
            return min(first, begin), max(last, end)
        case GreaterThanOrEqual(term=Reference(name=name)) if name in _TIMES:
            return _hour(where.literal.value), inf
        case LessThan(term=Reference(name=name)) if name in _TIMES:
            return -inf, _hour(where.literal.value)
    return ALWAYS


@dataclass(frozen=True, slots=True)
class _Lying:
    """At which places of a partition its day and its hour stand, if they do."""

    date: int | None
    hour: int | None

    @classmethod
    def of(cls, spec: "PartitionSpec") -> "_Lying":
        names = [field.name for field in spec.fields]
        date, hour = (names.index(name) if name in names else None for name in (_DATE, _HOUR))
        return cls(date, hour)

    def of_file(self, file: DataFile) -> Hours:
        """The hours of the rows of a file."""
        day = file.partition[self.date] if self.date is not None else None
        hour = file.partition[self.hour] if self.hour is not None else None
        return _hours(day, day, hour, hour)

    def of_manifest(self, manifest: ManifestFile) -> Hours:
        """The hours of the rows of all its files."""
        if not manifest.partitions:
            return ALWAYS
        days, times = (manifest.partitions[at] if at is not None else None for at in (self.date, self.hour))
        return _hours(*_bounds(days), *_bounds(times))


class _Known:
    """As much of a manifest as PyIceberg's planner asks for; its entries are there already."""

    content: Final = ManifestContent.DATA
    partitions: Final = None
    min_sequence_number: Final = 0

    def __init__(self, spec_id: int, entries: "list[ManifestEntry]") -> None:
        self.partition_spec_id = spec_id
        self._entries = entries

    def fetch_manifest_entry(self, io: "FileIO", discard_deleted: bool = True) -> "Iterator[ManifestEntry]":
        """The entries that may be of use."""
        del io, discard_deleted
        return iter(self._entries)


def _hours(first: int | None, last: int | None, begin: int | None, end: int | None) -> Hours:
    """Of the days from the first to the last; if that is one, from an hour of it to another."""
    if first is None or last is None:
        return ALWAYS
    if begin is None or end is None or first != last:
        begin, end = 0, 23
    return first * 24 + begin, last * 24 + end


def _bounds(told: PartitionFieldSummary | None) -> tuple[int | None, int | None]:
    if told is None or told.contains_null or told.lower_bound is None or told.upper_bound is None:
        return None, None
    first, last = (int.from_bytes(bound, "little", signed=True) for bound in (told.lower_bound, told.upper_bound))
    return first, last


def _meet(some: Hours, others: Hours) -> bool:
    return some[0] <= others[1] and others[0] <= some[1]


def _hour(moment: Any) -> int:
    return int((datetime.fromisoformat(moment) - _EPOCH) // _AN_HOUR)
