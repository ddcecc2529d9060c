"""List a table's snapshots, and resolve `as_of` to one of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from k2.common.validation_errors import format_value
from k2.query import times
from k2.query.errors import BadQuery
from k2.schemas.values import to_micros

if TYPE_CHECKING:
    from pyarrow import Table as ArrowTable
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from k2.query.times import AsOf


def resolve_snapshot(table: Table, as_of: AsOf | None) -> Snapshot | None:
    """Return the snapshot of a time, an id or a tag, or the newest; None for a table without snapshots.

    Raises `BadQuery` if the table has no such snapshot, or none that old.
    """
    name = table.name()[-1]
    if as_of is None:
        return table.current_snapshot()
    if isinstance(as_of, str):
        if (tagged := _tags(table).get(as_of)) is None:
            raise BadQuery(
                f"{name} has no tag {format_value(as_of)}; `k2 snapshots --table {name}` lists tags; write a time "
                "with its offset, such as 2026-01-31T14:00:00Z"
            )
        return table.snapshot_by_id(tagged)
    if isinstance(as_of, datetime):
        snapshot = _at_time(table, to_micros(times.to_utc(as_of, "as-of")) // 1000)
        requested = times.to_rfc3339(as_of)
    else:
        snapshot, requested = table.snapshot_by_id(as_of), f"the snapshot {as_of}"
    if snapshot is None:
        raise BadQuery(f"{name} has nothing as of {requested}; `k2 snapshots --table {name}` lists its snapshots")
    return snapshot


def list_snapshots(table: Table) -> ArrowTable:
    """Return id, parent, committed_at, operation, added_rows, total_rows, current and tags, oldest first."""
    import pyarrow as pa

    current, tags = table.metadata.current_snapshot_id, _tags(table)
    rows = [
        {
            "snapshot_id": snapshot.snapshot_id,
            "parent_id": snapshot.parent_snapshot_id,
            "committed_at": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
            "operation": snapshot.summary.operation.value if snapshot.summary else None,
            "added_rows": _count(snapshot.summary, "added-records"),
            "total_rows": _count(snapshot.summary, "total-records"),
            "current": snapshot.snapshot_id == current,
            "tags": " ".join(sorted(name for name, tagged in tags.items() if tagged == snapshot.snapshot_id)) or None,
        }
        for snapshot in sorted(table.snapshots(), key=lambda snapshot: snapshot.timestamp_ms)
    ]
    number, moment, text = pa.int64(), pa.timestamp("us", "UTC"), pa.string()
    columns = [("snapshot_id", number), ("parent_id", number), ("committed_at", moment), ("operation", text)]
    columns += [("added_rows", number), ("total_rows", number), ("current", pa.bool_()), ("tags", text)]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def _at_time(table: Table, milliseconds: int) -> Snapshot | None:
    """Return the newest snapshot of a time or before; None if there is none.

    Iceberg's log of snapshots ends where the first one has expired. Before that, tagged ones remain.
    """
    if (logged := table.snapshot_as_of_timestamp(milliseconds)) is not None:
        return logged
    tagged = set(_tags(table).values())
    earlier = (one for one in table.snapshots() if one.snapshot_id in tagged and one.timestamp_ms <= milliseconds)
    return max(earlier, key=lambda one: (one.timestamp_ms, one.sequence_number or 0), default=None)


def _tags(table: Table) -> dict[str, int]:
    from pyiceberg.table.refs import SnapshotRefType

    refs = table.metadata.refs.items()
    return {name: ref.snapshot_id for name, ref in refs if ref.snapshot_ref_type is SnapshotRefType.TAG}


def _count(summary: Any, name: str) -> int | None:
    value = summary.get(name) if summary else None
    return int(value) if value is not None else None
