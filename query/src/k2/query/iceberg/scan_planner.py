"""Plan which files hold the rows of a query, at one snapshot of a table. No row is read here."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery, CatalogEmpty
from k2.query.iceberg.catalog import catalog_errors, connect, newest
from k2.query.iceberg.snapshots import resolve_snapshot
from k2.query.iceberg.tables import check_format
from k2.schemas.channels import CHANNELS
from k2.schemas.tables import NAMESPACE

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import DataScan, Table
    from pyiceberg.table.snapshots import Snapshot

    from k2.common.platform import Platform
    from k2.query.times import AsOf

_MAX_PLANS: Final = 256
_TIME_COLUMN: Final = "timestamp"
_GOLD_TABLES: Final = frozenset(channel.gold.name for channel in CHANNELS)
_HOUR: Final = 3_600_000_000  # microseconds
_HOUR_PARTITIONING: Final = ["exchange_date", "exchange_hour"]  # of the Gold tables of all channels

TimeBounds = tuple[float, float]  # of a file's rows, in microseconds since 1970; infinite where unknown


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """One table at one snapshot, pruned to the files that may hold matching rows."""

    table: Table
    schema: Schema
    snapshot_id: int | None  # None: nothing was ever committed
    files: tuple[str, ...]  # as Iceberg's metadata spells them
    hours: tuple[int, ...] = ()  # since 1970, of each file; empty unless all are partitioned by hour
    rows: tuple[int, ...] = ()  # of each file
    times: tuple[TimeBounds, ...] = ()  # of each file's rows
    scan: DataScan | None = None  # set if there are delete files: PyIceberg must read the rows


class ScanPlanner:
    """Plan scans of the tables of one platform. Thread-safe.

    Table metadata, manifests and plans are cached; metadata is reloaded when the catalog points to a newer file.
    """

    def __init__(self, platform: Platform) -> None:
        from k2.query.iceberg.manifests import ManifestCache

        self.catalog: Catalog = connect(platform)
        self._tables: dict[str, Table] = {}
        self._plans: dict[tuple[str, int, str], ScanPlan] = {}
        self._manifests = ManifestCache()
        self._lock = Lock()

    def names(self) -> tuple[str, ...]:
        """Return the names of the existing tables."""
        with catalog_errors("the catalog"):
            return tuple(sorted(name for _, name in self.catalog.list_tables(NAMESPACE)))

    def table(self, name: str) -> Table:
        """Return a table's current state.

        Raises `BadQuery` if it does not exist, `CatalogEmpty` for a missing Gold, and `WrongFormat`.
        """
        from pyiceberg.exceptions import NoSuchTableError

        cached = self._tables.get(name)
        try:
            with catalog_errors(name):
                table = newest(self.catalog, name, cached)
                if table is not cached:
                    self._tables[name] = check_format(table)
                return table
        except NoSuchTableError:
            if name in _GOLD_TABLES:
                raise CatalogEmpty(f"there is no table {name} yet; `k2 up` creates it") from None
            raise BadQuery(
                f"there is no table {format_value(name)}; available tables: {', '.join(self.names())}"
            ) from None

    def plan(self, name: str, where: BooleanExpression | None = None, as_of: AsOf | None = None) -> ScanPlan:
        """Plan the files of a table that may hold rows `where`, now or `as_of` a time, snapshot or tag."""
        table = self.table(name)
        snapshot = resolve_snapshot(table, as_of)
        if snapshot is None:
            return self.plan_at(table, snapshot, where)
        key = (table.metadata_location, snapshot.snapshot_id, f"{as_of is not None} {where!r}")
        with self._lock:
            cached = self._plans.get(key)
        if cached is None:
            cached = self.plan_at(table, snapshot, where, past=as_of is not None)
            with self._lock:
                while len(self._plans) >= _MAX_PLANS:
                    del self._plans[next(iter(self._plans))]
                self._plans[key] = cached
        return cached

    def plan_at(
        self,
        table: Table,
        snapshot: Snapshot | None,
        where: BooleanExpression | None = None,
        *,
        past: bool = False,
    ) -> ScanPlan:
        """Plan the files that may hold rows `where` at a snapshot; `past` uses that snapshot's columns."""
        from pyiceberg.expressions import AlwaysTrue

        if snapshot is None:
            return ScanPlan(table, table.schema(), None, ())
        where = where or AlwaysTrue()
        schema = _schema(table, snapshot) if past else table.schema()
        with catalog_errors(table.name()[-1]):
            files = self._manifests.files(table, snapshot, where)
        if files is None:
            scan = table.scan(row_filter=where, snapshot_id=snapshot.snapshot_id)
            return ScanPlan(table, schema, snapshot.snapshot_id, (), scan=scan)
        hours = [_partition_hour(table, file) for file in files]
        by_hour = tuple(hour for hour in hours if hour is not None)
        if len(by_hour) < len(hours):
            by_hour = ()
        rows = tuple(file.record_count for file in files)
        times = tuple(_time_bounds(table, file, hour) for file, hour in zip(files, hours, strict=True))
        return ScanPlan(
            table, schema, snapshot.snapshot_id, tuple(file.file_path for file in files), by_hour, rows, times
        )

    def close(self) -> None:
        """Close the catalog's database connections."""
        self.catalog.close()


def _partition_hour(table: Table, file: DataFile) -> int | None:
    """Return the hour since 1970 of a file's partition; None if it is not partitioned by hour."""
    names = [field.name for field in table.specs()[file.spec_id].fields]
    if names != _HOUR_PARTITIONING:
        return None
    day, hour = file.partition[0], file.partition[1]
    return None if day is None or hour is None else int(day) * 24 + int(hour)


def _time_bounds(table: Table, file: DataFile, hour: int | None) -> TimeBounds:
    """Return the bounds of a file's timestamps, as its writer recorded them; of its hour, if a timestamp is null."""
    ids = [field.field_id for field in table.schema().fields if field.name == _TIME_COLUMN]
    first, last = ((bounds or {}).get(ids[0]) if ids else None for bounds in (file.lower_bounds, file.upper_bounds))
    if first is None or last is None or (file.null_value_counts or {}).get(ids[0]):
        return (-inf, inf) if hour is None else (hour * _HOUR, (hour + 1) * _HOUR - 1)
    return int.from_bytes(first, "little", signed=True), int.from_bytes(last, "little", signed=True)


def _schema(table: Table, snapshot: Snapshot) -> Schema:
    return table.schemas()[snapshot.schema_id] if snapshot.schema_id is not None else table.schema()
