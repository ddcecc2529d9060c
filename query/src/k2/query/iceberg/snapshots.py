"""A table's snapshots: which there are, and the one that somebody means."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from k2.common.validation_errors import shown
from k2.query import times
from k2.query.errors import BadQuery
from k2.query.times import AsOf
from k2.schemas.values import micros

if TYPE_CHECKING:
    from pyarrow import Table as ArrowTable
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot


def snapshot_of(table: "Table", as_of: AsOf | None) -> "Snapshot | None":
    """The snapshot that was current at a time, or that has an id or a tag, or the newest; None for a table without any.

    Raises `BadQuery` if the table has no such snapshot, or has none that old.
    """
    name = table.name()[-1]
    if as_of is None:
        return table.current_snapshot()
    if isinstance(as_of, str):
        if (tagged := _tags(table).get(as_of)) is None:
            raise BadQuery(
                f"{name} has no tag {shown(as_of)}; `k2 snapshots --table {name}` lists them, and a time is written "
                "with its offset, such as 2026-01-31T14:00:00Z"
            )
        return table.snapshot_by_id(tagged)
    if isinstance(as_of, datetime):
        found = table.snapshot_as_of_timestamp(micros(times.aware(as_of, "as-of")) // 1000)
        asked = times.text(as_of)
    else:
        found, asked = table.snapshot_by_id(as_of), f"the snapshot {as_of}"
    if found is None:
        raise BadQuery(f"{name} has nothing as of {asked}; `k2 snapshots --table {name}` lists what it has")
    return found


def snapshots(table: "Table") -> "ArrowTable":
    """Oldest first: id, parent, committed_at, operation, added_rows, total_rows, current, tags."""
    import pyarrow as pa

    current, tags = table.metadata.current_snapshot_id, _tags(table)
    rows = [
        {
            "snapshot_id": snapshot.snapshot_id,
            "parent_id": snapshot.parent_snapshot_id,
            "committed_at": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
            "operation": snapshot.summary.operation.value if snapshot.summary else None,
            "added_rows": _counted(snapshot.summary, "added-records"),
            "total_rows": _counted(snapshot.summary, "total-records"),
            "current": snapshot.snapshot_id == current,
            "tags": " ".join(sorted(name for name, tagged in tags.items() if tagged == snapshot.snapshot_id)) or None,
        }
        for snapshot in sorted(table.snapshots(), key=lambda snapshot: snapshot.timestamp_ms)
    ]
    number, moment, text = pa.int64(), pa.timestamp("us", "UTC"), pa.string()
    columns = [("snapshot_id", number), ("parent_id", number), ("committed_at", moment), ("operation", text)]
    columns += [("added_rows", number), ("total_rows", number), ("current", pa.bool_()), ("tags", text)]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def _tags(table: "Table") -> dict[str, int]:
    from pyiceberg.table.refs import SnapshotRefType

    refs = table.metadata.refs.items()
    return {name: ref.snapshot_id for name, ref in refs if ref.snapshot_ref_type is SnapshotRefType.TAG}


def _counted(summary: Any, name: str) -> int | None:
    value = summary.get(name) if summary else None
    return int(value) if value is not None else None
