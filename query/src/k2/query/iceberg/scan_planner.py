"""Which files hold the rows that a question is about, at one snapshot of a table. No row is read here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Final

from k2.common.platform import Platform
from k2.common.validation_errors import shown
from k2.query.errors import BadQuery, NotYet, Unavailable
from k2.query.iceberg.catalog import connect
from k2.query.iceberg.snapshots import snapshot_of
from k2.query.iceberg.tables import identifier
from k2.query.times import AsOf
from k2.schemas.tables import GOLD, GOLD_TABLE, NAMESPACE

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import DataScan, Table
    from pyiceberg.table.snapshots import Snapshot

_PLANS: Final = 256
_TIME: Final = "timestamp"
_BY_HOUR: Final = [partition.column for partition in GOLD_TABLE.partitions]

Times = tuple[float, float]  # microseconds since 1970, of the first and the last row; infinite where that is not known


@dataclass(frozen=True, slots=True)
class Plan:
    """One table at one snapshot, narrowed to the files that may hold rows of interest."""

    table: "Table"
    schema: "Schema"
    snapshot_id: int | None  # None: nothing was ever committed
    files: tuple[str, ...]  # as Iceberg's metadata spells them
    hours: tuple[int, ...] = ()  # since 1970, of each file; empty unless all lie by the hour
    rows: tuple[int, ...] = ()  # of each file
    times: tuple[Times, ...] = ()  # of each file's rows
    scan: "DataScan | None" = None  # set where rows were deleted apart from the files: Iceberg itself must read them


class Lake:
    """The tables of one platform. Several threads may use one.

    What cannot change is read once: metadata by where the catalog says it lies, manifests; and plans are kept.
    """

    def __init__(self, platform: Platform) -> None:
        from k2.query.iceberg.manifests import Manifests

        self.catalog: SqlCatalog = connect(platform)
        self._tables: dict[str, Table] = {}
        self._plans: dict[tuple[str, int, str], Plan] = {}
        self._manifests = Manifests()
        self._lock = Lock()

    def names(self) -> tuple[str, ...]:
        """The tables that there are."""
        with reaching("the catalog"):
            return tuple(sorted(name for _, name in self.catalog.list_tables(NAMESPACE)))

    def table(self, name: str) -> "Table":
        """A table as it is now. Raises `BadQuery` for one that there is not, `Unavailable` if Gold is not there yet."""
        from pyiceberg.exceptions import NoSuchTableError

        known = self._tables.get(name)
        try:
            with reaching(name):
                if known is None or known.metadata_location != self._location(name):
                    known = self._tables[name] = self.catalog.load_table(identifier(name))
                return known
        except NoSuchTableError:
            if name == GOLD:
                raise NotYet(f"there is no table {GOLD} yet; it comes with the first `k2 up`") from None
            raise BadQuery(f"there is no table {shown(name)}; there are {', '.join(self.names())}") from None

    def plan(self, name: str, where: "BooleanExpression | None" = None, as_of: AsOf | None = None) -> Plan:
        """The files of a table that may hold rows `where`, now or as of a time or a snapshot."""
        table = self.table(name)
        snapshot = snapshot_of(table, as_of)
        if snapshot is None:
            return self.planned(table, snapshot, where)
        place = (table.metadata_location, snapshot.snapshot_id, f"{as_of is not None} {where!r}")
        with self._lock:
            known = self._plans.get(place)
        if known is None:
            known = self.planned(table, snapshot, where, past=as_of is not None)
            with self._lock:
                while len(self._plans) >= _PLANS:
                    del self._plans[next(iter(self._plans))]
                self._plans[place] = known
        return known

    def planned(
        self,
        table: "Table",
        snapshot: "Snapshot | None",
        where: "BooleanExpression | None" = None,
        *,
        past: bool = False,
    ) -> Plan:
        """The files of a table that may hold rows `where`, at a snapshot; if that is `past`, with its columns."""
        from pyiceberg.expressions import AlwaysTrue

        if snapshot is None:
            return Plan(table, table.schema(), None, ())
        where = where or AlwaysTrue()
        schema = _schema(table, snapshot) if past else table.schema()
        with reaching(table.name()[-1]):
            files = self._manifests.files(table, snapshot, where)
        if files is None:
            scan = table.scan(row_filter=where, snapshot_id=snapshot.snapshot_id)
            return Plan(table, schema, snapshot.snapshot_id, (), scan=scan)
        hours = [_hour(table, file) for file in files]
        by_hour = tuple(hour for hour in hours if hour is not None)
        if len(by_hour) < len(hours):
            by_hour = ()
        rows, times = tuple(file.record_count for file in files), tuple(_times(table, file) for file in files)
        return Plan(table, schema, snapshot.snapshot_id, tuple(file.file_path for file in files), by_hour, rows, times)

    def close(self) -> None:
        """Lets go of the catalog's database."""
        self.catalog.close()

    def _location(self, name: str) -> str | None:
        """Where the catalog says that a table's metadata lies; None for a table that there is not."""
        from pyiceberg.catalog.sql import IcebergTables
        from sqlalchemy import select
        from sqlalchemy.orm import Session

        row = select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == self.catalog.name,
            IcebergTables.table_namespace == NAMESPACE,
            IcebergTables.table_name == name,
        )
        with Session(self.catalog.engine) as session:
            return session.scalar(row)


def _hour(table: "Table", file: "DataFile") -> int | None:
    """The hour since 1970 of a file's partition, if that is one."""
    names = [field.name for field in table.specs()[file.spec_id].fields]
    if names != _BY_HOUR:
        return None
    day, hour = file.partition[0], file.partition[1]
    return None if day is None or hour is None else int(day) * 24 + int(hour)


def _times(table: "Table", file: "DataFile") -> Times:
    """From when to when a file's rows are, as its writer noted it."""
    ids = [field.field_id for field in table.schema().fields if field.name == _TIME]
    first, last = ((bounds or {}).get(ids[0]) if ids else None for bounds in (file.lower_bounds, file.upper_bounds))
    if first is None or last is None:
        return -inf, inf
    return int.from_bytes(first, "little", signed=True), int.from_bytes(last, "little", signed=True)


def _schema(table: "Table", snapshot: "Snapshot") -> "Schema":
    return table.schemas()[snapshot.schema_id] if snapshot.schema_id is not None else table.schema()


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Tells a catalog or a file that cannot be read as `Unavailable`."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OSError, SQLAlchemyError) as error:
        raise Unavailable(f"{what} cannot be read: {' '.join(str(error).split())[:300]}") from error
