"""Measure the latency of trades from the exchange's socket to Gold, from Gold's own rows and commits.

A row becomes visible with the commit that adds its file, and holds the time at which its frame left the socket. Both
are in the table; no clock is read. Backfilled trades are excluded: they come from REST requests made hours later.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from k2.query.errors import Unavailable
from k2.query.iceberg import data_files
from k2.query.iceberg.catalog import catalog_errors
from k2.query.iceberg.scan_planner import ScanPlan
from k2.query.iceberg.tables import load
from k2.query.times import to_utc
from k2.schemas.records.trade import Source
from k2.schemas.tables import GOLD
from k2.schemas.values import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Freshness:
    """Percentiles of the seconds from socket to Gold; nan if there are no rows."""

    p50: float
    p95: float
    p99: float
    rows: int


def freshness(catalog: Catalog, since: datetime) -> Freshness:
    """Return the freshness of the trades that commits since a time added.

    Compaction adds no rows, so its commits do not count. Raises `Unavailable` if Gold does not exist.
    """
    import duckdb
    from pyiceberg.exceptions import NoSuchTableError

    try:
        with catalog_errors(GOLD):
            table = load(catalog, GOLD)
    except NoSuchTableError:
        raise Unavailable(f"there is no table {GOLD} yet; `k2 up` creates it") from None
    with duckdb.connect() as connection:
        connection.execute("CREATE TEMP TABLE taken (seconds DOUBLE)")
        for snapshot in _appends(table, to_micros(to_utc(since, "since"))):
            plan = ScanPlan(table, table.schema(), snapshot.snapshot_id, tuple(_added_files(table, snapshot)))
            data_files.attach(connection, "added", plan)
            connection.execute(
                "INSERT INTO taken SELECT ($1 * 1000 - epoch_us(ingestion_timestamp)) / 1e6 FROM added "
                "WHERE json_extract_string(vendor_data, '$.source') IS DISTINCT FROM $2",
                [snapshot.timestamp_ms, Source.BACKFILL.value],
            )
        row = connection.execute("SELECT quantile_cont(seconds, [0.5, 0.95, 0.99]), count(*) FROM taken").fetchone()
    assert row is not None
    quantiles, rows = row
    p50, p95, p99 = quantiles or (nan, nan, nan)
    return Freshness(p50, p95, p99, rows)


def _appends(table: Table, since: int) -> Iterator[Snapshot]:
    from pyiceberg.table.snapshots import Operation

    for snapshot in table.snapshots():
        added = snapshot.summary is not None and snapshot.summary.operation is Operation.APPEND
        if added and snapshot.timestamp_ms * 1000 >= since:
            yield snapshot


def _added_files(table: Table, snapshot: Snapshot) -> Iterator[str]:
    """Yield the files that a snapshot added: entries of its own manifests that carry its id."""
    from pyiceberg.manifest import ManifestEntryStatus

    with catalog_errors(GOLD):
        for manifest in snapshot.manifests(table.io):
            if manifest.added_snapshot_id != snapshot.snapshot_id:
                continue
            for entry in manifest.fetch_manifest_entry(table.io):
                if entry.status is ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot.snapshot_id:
                    yield entry.data_file.file_path
