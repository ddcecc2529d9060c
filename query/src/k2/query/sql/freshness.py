"""How long a trade takes from the exchange's socket into Gold, measured on what Gold itself holds.

A row became visible with the commit that added its file, and it carries the moment at which its frame left the socket.
Both are in the table; no clock is read here. Backfilled trades are left out: their socket is REST, asked hours later.
"""

from dataclasses import dataclass
from datetime import datetime
from math import nan
from typing import TYPE_CHECKING

from k2.query.errors import Unavailable
from k2.query.iceberg import data_files
from k2.query.iceberg.scan_planner import Plan, reaching
from k2.query.iceberg.tables import identifier
from k2.query.times import aware
from k2.schemas.records.trade import Source
from k2.schemas.tables import GOLD
from k2.schemas.values import micros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from socket to Gold that 50, 95 and 99 of 100 trades took at most; nan where there were no rows."""

    p50: float
    p95: float
    p99: float
    rows: int


def freshness(catalog: "Catalog", since: datetime) -> Freshness:
    """The freshness of the trades that commits since a moment added.

    Compaction moves rows and adds none, so its commits do not count. Raises `Unavailable` if there is no Gold.
    """
    import duckdb
    from pyiceberg.exceptions import NoSuchTableError

    try:
        with reaching(GOLD):
            table = catalog.load_table(identifier(GOLD))
    except NoSuchTableError:
        raise Unavailable(f"there is no table {GOLD} yet; it comes with the first `k2 up`") from None
    with duckdb.connect() as connection:
        connection.execute("CREATE TEMP TABLE taken (seconds DOUBLE)")
        for snapshot in _appends(table, micros(aware(since, "since"))):
            plan = Plan(table, table.schema(), snapshot.snapshot_id, tuple(_added(table, snapshot)))
            data_files.attach(connection, "added", plan)
            connection.execute(
                "INSERT INTO taken SELECT ($1 * 1000 - epoch_us(ingestion_timestamp)) / 1e6 FROM added "
                "WHERE json_extract_string(vendor_data, '$.source') IS DISTINCT FROM $2",
                [snapshot.timestamp_ms, Source.BACKFILL.value],
            )
        row = connection.execute("SELECT quantile_cont(seconds, [0.5, 0.95, 0.99]), count(*) FROM taken").fetchone()
    assert row is not None
    shares, rows = row
    p50, p95, p99 = shares or (nan, nan, nan)
    return Freshness(p50, p95, p99, rows)


def _appends(table: "Table", since: int) -> "Iterator[Snapshot]":
    from pyiceberg.table.snapshots import Operation

    for snapshot in table.snapshots():
        added = snapshot.summary is not None and snapshot.summary.operation is Operation.APPEND
        if added and snapshot.timestamp_ms * 1000 >= since:
            yield snapshot


def _added(table: "Table", snapshot: "Snapshot") -> "Iterator[str]":
    """The files that a snapshot brought: they stand in manifests that it wrote, marked with its id."""
    from pyiceberg.manifest import ManifestEntryStatus

    with reaching(GOLD):
        for manifest in snapshot.manifests(table.io):
            if manifest.added_snapshot_id != snapshot.snapshot_id:
                continue
            for entry in manifest.fetch_manifest_entry(table.io):
                if entry.status is ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot.snapshot_id:
                    yield entry.data_file.file_path
