"""Combine a channel's Gold at one snapshot with the Kafka records that follow it into one view of each record once."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from k2.query.iceberg import data_files
from k2.query.kafka.kafka_offsets import FrontierCache
from k2.query.sql import record_sql
from k2.schemas.content import SEARCH_MARGIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from duckdb import DuckDBPyConnection
    from pyarrow import Table
    from pyiceberg.table import Table as IcebergTable
    from pyiceberg.table.snapshots import Snapshot

    from k2.common.platform import Platform
    from k2.query.iceberg.scan_planner import ScanPlan, ScanPlanner
    from k2.query.kafka.tail import Tail
    from k2.query.sql.record_sql import RecordFilter
    from k2.schemas.channels import Channel

# REST and websocket may give a record's time in different precision, so duplicates are searched a second around it.
TIME_MARGIN: Final = timedelta(seconds=1)
_GOLD: Final = "gold"
_TAIL: Final = "tail"
_NEW: Final = "new_records"
_OVERLAP: Final = "gold_overlap"
_ROW: Final = "k2_row"


class HybridView:
    """Gold and the Kafka tail of one channel of one platform. Thread-safe."""

    def __init__(self, planner: ScanPlanner, platform: Platform, channel: Channel, *, live: bool = False) -> None:
        self._planner = planner
        self._platform = platform
        self._channel = channel
        self._live = live
        self._lock = threading.Lock()
        self._frontiers = FrontierCache()
        self._tail: Tail | None = None
        self.conflicts = 0  # records that the last query left out for other content than the first copy has

    def attach(self, connection: DuckDBPyConnection, name: str, record_filter: RecordFilter) -> ScanPlan:
        """Create a view of the matching records, each once, and return the plan of Gold's part."""
        plan, new_records = self.split(connection, record_filter)
        self._create_union_view(connection, name, plan, new_records)
        return plan

    def split(self, connection: DuckDBPyConnection, record_filter: RecordFilter) -> tuple[ScanPlan, Table]:
        """Return the plan of Gold's matching records, and those of the tail that Gold does not hold.

        Gold is read before Kafka: what is committed in between appears in both and is deduplicated, and never missing.
        """
        widened = widen(record_filter)
        plan = self._planner.plan(self._channel.gold.name, widened.expression(*self._channel.time_columns))
        return plan, self._unknown_to_gold(
            connection, plan, self._tail_rows(plan.table, plan.snapshot_id, widened), widened
        )

    def tail_after(self, gold: IcebergTable, snapshot: Snapshot, record_filter: RecordFilter) -> Table:
        """Return the matching records of the tail that follow a snapshot of Gold, for `attach_union`."""
        return self._tail_rows(gold, snapshot.snapshot_id, widen(record_filter))

    def attach_union(
        self, connection: DuckDBPyConnection, name: str, gold: ScanPlan, tail: Table, record_filter: RecordFilter
    ) -> None:
        """Create a view of the plan's records and the tail's, each once."""
        new_records = self._unknown_to_gold(connection, gold, tail, record_filter)
        self._create_union_view(connection, name, gold, new_records)

    def has_newer(self, plan: ScanPlan, record_filter: RecordFilter) -> bool:
        """Return whether Kafka holds matching records that Gold has not consumed yet."""
        return bool(self._tail_rows(plan.table, plan.snapshot_id, record_filter).num_rows)

    def topics(self) -> Mapping[str, str]:
        """Return the topics that Gold has consumed, with their exchange labels."""
        table = self._planner.table(self._channel.gold.name)
        with self._lock:
            return self._frontiers.at(table, table.current_snapshot()).exchanges

    def close(self) -> None:
        """Close the Kafka connections."""
        with self._lock:
            if self._tail is not None:
                self._tail.close()

    def _tail_rows(self, gold: IcebergTable, snapshot_id: int | None, record_filter: RecordFilter) -> Table:
        from k2.query.kafka import record_buffer

        with self._lock:
            if self._tail is None:
                from k2.query.kafka.tail import Tail

                self._tail = Tail(self._platform, self._channel, live=self._live)
            newest = gold.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
            frontier = self._frontiers.at(gold, newest)
        # The first copy may be outside of the range, and one with another time inside: it must not be shown.
        rows = self._tail.rows(frontier, widen(record_filter, SEARCH_MARGIN))
        self.conflicts = self._tail.conflicts
        return record_buffer.within(self._channel, rows, record_filter)

    def _unknown_to_gold(
        self, connection: DuckDBPyConnection, gold: ScanPlan, tail: Table, record_filter: RecordFilter
    ) -> Table:
        """Return the records of the tail that Gold does not hold; only Gold's files of the same time are read."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from k2.query.kafka import record_buffer

        if not tail.num_rows or not gold.files:
            return tail
        identity, time_columns = self._channel.identity, self._channel.time_columns
        times = pc.min_max(record_buffer.times(self._channel, tail)).as_py()
        overlap = widen(replace(record_filter, start=times["min"], end=times["max"]), SEARCH_MARGIN)
        snapshot = gold.table.snapshot_by_id(gold.snapshot_id) if gold.snapshot_id is not None else None
        plan = self._planner.plan_at(gold.table, snapshot, overlap.expression(*time_columns))
        data_files.attach(connection, _OVERLAP, plan)
        rows = pa.arange(0, tail.num_rows)
        columns = dict.fromkeys((*identity, *self._channel.content, *time_columns))
        connection.register(_TAIL, tail.select(list(columns)).append_column(_ROW, rows))
        same = " AND ".join(f'{_TAIL}."{name}" IS NOT DISTINCT FROM {_OVERLAP}."{name}"' for name in identity)
        nearby = f"SELECT * FROM {_OVERLAP} WHERE {overlap.condition(*time_columns)}"  # noqa: S608 - values are parameters
        differs = record_sql.differs(self._channel, _TAIL, _OVERLAP)
        statement = f"SELECT DISTINCT {_ROW}, {differs} FROM {_TAIL} JOIN ({nearby}) AS {_OVERLAP} ON {same}"  # noqa: S608
        copies = connection.execute(statement, overlap.parameters).fetchall()
        self.conflicts += len({row for row, is_other in copies if is_other})
        repeated = list({row for row, _ in copies})
        return tail.filter(pc.invert(pc.is_in(rows, value_set=pa.array(repeated, pa.int64()))))

    def _create_union_view(self, connection: DuckDBPyConnection, name: str, gold: ScanPlan, new_records: Table) -> None:
        data_files.attach(connection, _GOLD, gold)
        connection.register(_NEW, new_records)
        union = record_sql.union(self._channel, _GOLD, _NEW)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {union}")


def widen(record_filter: RecordFilter, margin: timedelta = TIME_MARGIN) -> RecordFilter:
    """Widen the filter to include records whose copy in the other source has a slightly different time."""
    start, end = record_filter.start, record_filter.end
    with suppress(OverflowError):  # within the margin of the smallest or largest datetime
        start, end = start and start - margin, end and end + margin
    return replace(record_filter, start=start, end=end)
