"""Combine Gold at one snapshot with the Kafka records that follow it into one view that has each trade once."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from k2.query.iceberg import data_files
from k2.query.kafka.kafka_offsets import FrontierCache
from k2.query.sql import trade_sql
from k2.schemas.tables import GOLD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from duckdb import DuckDBPyConnection
    from pyarrow import Table
    from pyiceberg.table import Table as IcebergTable
    from pyiceberg.table.snapshots import Snapshot

    from k2.common.platform import Platform
    from k2.query.iceberg.scan_planner import ScanPlan, ScanPlanner
    from k2.query.kafka.tail import Tail
    from k2.query.sql.trade_sql import TradeFilter

# REST and websocket may give a trade's time in different precision, so duplicates are searched a second around it.
TIME_MARGIN: Final = timedelta(seconds=1)
_GOLD: Final = "gold"
_TAIL: Final = "tail"
_NEW: Final = "new_trades"
_OVERLAP: Final = "gold_overlap"


class HybridView:
    """Gold and the Kafka tail of one platform. Thread-safe."""

    def __init__(self, planner: ScanPlanner, platform: Platform, *, live: bool = False) -> None:
        self._planner = planner
        self._platform = platform
        self._live = live
        self._lock = threading.Lock()
        self._frontiers = FrontierCache()
        self._tail: Tail | None = None

    def attach(self, connection: DuckDBPyConnection, name: str, trade_filter: TradeFilter) -> ScanPlan:
        """Create a view of the matching trades, each once, and return the plan of Gold's part."""
        plan, new_trades = self.split(connection, trade_filter)
        _create_union_view(connection, name, plan, new_trades)
        return plan

    def split(self, connection: DuckDBPyConnection, trade_filter: TradeFilter) -> tuple[ScanPlan, Table]:
        """Return the plan of Gold's matching trades, and those of the tail that Gold does not hold.

        Gold is read before Kafka: what is committed in between appears in both and is deduplicated, and never missing.
        """
        widened = widen(trade_filter)
        plan = self._planner.plan(GOLD, widened.expression)
        return plan, self._unknown_to_gold(
            connection, plan, self._tail_rows(plan.table, plan.snapshot_id, widened), widened
        )

    def tail_after(self, gold: IcebergTable, snapshot: Snapshot, trade_filter: TradeFilter) -> Table:
        """Return the matching trades of the tail that follow a snapshot of Gold, for `attach_union`."""
        return self._tail_rows(gold, snapshot.snapshot_id, widen(trade_filter))

    def attach_union(
        self, connection: DuckDBPyConnection, name: str, gold: ScanPlan, tail: Table, trade_filter: TradeFilter
    ) -> None:
        """Create a view of the plan's trades and the tail's, each once."""
        _create_union_view(connection, name, gold, self._unknown_to_gold(connection, gold, tail, trade_filter))

    def has_newer(self, plan: ScanPlan, trade_filter: TradeFilter) -> bool:
        """Return whether Kafka holds matching trades that Gold has not consumed yet."""
        return bool(self._tail_rows(plan.table, plan.snapshot_id, trade_filter).num_rows)

    def topics(self) -> Mapping[str, str]:
        """Return the topics that Gold has consumed, with their exchange labels."""
        table = self._planner.table(GOLD)
        with self._lock:
            return self._frontiers.at(table, table.current_snapshot()).exchanges

    def close(self) -> None:
        """Close the Kafka connections."""
        with self._lock:
            if self._tail is not None:
                self._tail.close()

    def _tail_rows(self, gold: IcebergTable, snapshot_id: int | None, trade_filter: TradeFilter) -> Table:
        with self._lock:
            if self._tail is None:
                from k2.query.kafka.tail import Tail

                self._tail = Tail(self._platform, live=self._live)
            newest = gold.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
            frontier = self._frontiers.at(gold, newest)
        return self._tail.rows(frontier, trade_filter)

    def _unknown_to_gold(
        self, connection: DuckDBPyConnection, gold: ScanPlan, tail: Table, trade_filter: TradeFilter
    ) -> Table:
        """Return the trades of the tail that Gold does not hold; only Gold's files of the same time are read."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not tail.num_rows or not gold.files:
            return tail
        times = pc.min_max(tail.column("timestamp")).as_py()
        overlap = widen(replace(trade_filter, start=times["min"], end=times["max"]))
        snapshot = gold.table.snapshot_by_id(gold.snapshot_id) if gold.snapshot_id is not None else None
        data_files.attach(connection, _OVERLAP, self._planner.plan_at(gold.table, snapshot, overlap.expression))
        connection.register(_TAIL, tail)
        duplicates = f"SELECT message_id FROM {_OVERLAP} WHERE {overlap.condition}"  # noqa: S608 - values are parameters
        statement = f"SELECT message_id FROM {_TAIL} SEMI JOIN ({duplicates}) USING (message_id)"  # noqa: S608
        ids = [message_id for (message_id,) in connection.execute(statement, overlap.parameters).fetchall()]
        return tail.filter(pc.invert(pc.is_in(tail.column("message_id"), value_set=pa.array(ids, pa.string()))))


def widen(trade_filter: TradeFilter) -> TradeFilter:
    """Widen the filter to include trades whose copy in the other source has a slightly different time."""
    start, end = trade_filter.start, trade_filter.end
    with suppress(OverflowError):  # within a second of the smallest or largest datetime
        start, end = start and start - TIME_MARGIN, end and end + TIME_MARGIN
    return replace(trade_filter, start=start, end=end)


def _create_union_view(connection: DuckDBPyConnection, name: str, gold: ScanPlan, new_trades: Table) -> None:
    data_files.attach(connection, _GOLD, gold)
    connection.register(_NEW, new_trades)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {trade_sql.union(_GOLD, _NEW)}")
