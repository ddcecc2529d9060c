"""Gold at one snapshot, and after it what Kafka holds beyond that snapshot's frontier: one view, each trade once."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from k2.common.platform import Platform
from k2.query.iceberg import data_files
from k2.query.iceberg.scan_planner import Lake, Plan
from k2.query.kafka.kafka_offsets import Frontiers
from k2.query.sql import trade_sql
from k2.query.sql.trade_sql import Wanted
from k2.schemas.tables import GOLD

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow import Table
    from pyiceberg.table import Table as IcebergTable
    from pyiceberg.table.snapshots import Snapshot

    from k2.query.kafka.tail import Tail

# REST and websocket may tell one trade's time with different precision: it is looked for a second around.
MARGIN: Final = timedelta(seconds=1)
_GOLD: Final = "gold"
_TAIL: Final = "tail"
_FRESH: Final = "fresh"
_NEAR: Final = "near"


class Hybrid:
    """Gold and the tail of one platform. Several threads may use one."""

    def __init__(self, lake: Lake, platform: Platform, *, live: bool = False) -> None:
        self._lake = lake
        self._platform = platform
        self._live = live
        self._lock = threading.Lock()
        self._frontiers = Frontiers()
        self._tail: Tail | None = None

    def attach(self, connection: "DuckDBPyConnection", name: str, wanted: Wanted) -> Plan:
        """Makes the trades that may be wanted a view of that name, each once, and gives the plan of Gold's part."""
        plan, fresh = self.apart(connection, wanted)
        _unite(connection, name, plan, fresh)
        return plan

    def apart(self, connection: "DuckDBPyConnection", wanted: Wanted) -> "tuple[Plan, Table]":
        """The plan of Gold's trades that may be wanted, and those of the tail that Gold does not hold.

        Gold is looked at before Kafka: what a commit takes in between is there twice, and not missing.
        """
        wide = around(wanted)
        plan = self._lake.plan(GOLD, wide.expression)
        return plan, self._fresh(connection, plan, self._rows(plan.table, plan.snapshot_id, wide), wide)

    def newer(self, gold: "IcebergTable", snapshot: "Snapshot", wanted: Wanted) -> "Table":
        """The trades of the tail after a snapshot of Gold that may be wanted, for `join`."""
        return self._rows(gold, snapshot.snapshot_id, around(wanted))

    def join(self, connection: "DuckDBPyConnection", name: str, gold: Plan, tail: "Table", wanted: Wanted) -> None:
        """Makes the plan's trades and the tail's a view of that name, each once."""
        _unite(connection, name, gold, self._fresh(connection, gold, tail, wanted))

    def follows(self, plan: Plan, wanted: Wanted) -> bool:
        """Whether Kafka holds anything that is wanted and that Gold does not reach yet."""
        return bool(self._rows(plan.table, plan.snapshot_id, wanted).num_rows)

    def topics(self) -> Mapping[str, str]:
        """The topics that Gold has taken trades from, and the labels of these."""
        table = self._lake.table(GOLD)
        with self._lock:
            return self._frontiers.at(table, table.current_snapshot()).exchanges

    def close(self) -> None:
        """Lets go of Kafka."""
        with self._lock:
            if self._tail is not None:
                self._tail.close()

    def _rows(self, gold: "IcebergTable", snapshot_id: int | None, wanted: Wanted) -> "Table":
        with self._lock:
            if self._tail is None:
                from k2.query.kafka.tail import Tail

                self._tail = Tail(self._platform, live=self._live)
            newest = gold.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
            frontier = self._frontiers.at(gold, newest)
        return self._tail.rows(frontier, wanted)

    def _fresh(self, connection: "DuckDBPyConnection", gold: Plan, tail: "Table", wanted: Wanted) -> "Table":
        """The trades of the tail that Gold does not hold. Of Gold's files those are read in which they would lie."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not tail.num_rows or not gold.files:
            return tail
        times = pc.min_max(tail.column("timestamp")).as_py()
        near = around(replace(wanted, start=times["min"], end=times["max"]))
        snapshot = gold.table.snapshot_by_id(gold.snapshot_id) if gold.snapshot_id is not None else None
        data_files.attach(connection, _NEAR, self._lake.planned(gold.table, snapshot, near.expression))
        connection.register(_TAIL, tail)
        known = f"SELECT message_id FROM {_NEAR} WHERE {near.condition}"  # noqa: S608 - values are parameters
        statement = f"SELECT message_id FROM {_TAIL} SEMI JOIN ({known}) USING (message_id)"  # noqa: S608
        ids = [message_id for (message_id,) in connection.execute(statement, near.parameters).fetchall()]
        return tail.filter(pc.invert(pc.is_in(tail.column("message_id"), value_set=pa.array(ids, pa.string()))))


def around(wanted: Wanted) -> Wanted:
    """The question, wide enough to meet every trade that may be one of its own with another time."""
    start, end = wanted.start, wanted.end
    with suppress(OverflowError):  # within a second of the first or the last moment that there is
        start, end = start and start - MARGIN, end and end + MARGIN
    return replace(wanted, start=start, end=end)


def _unite(connection: "DuckDBPyConnection", name: str, gold: Plan, fresh: "Table") -> None:
    data_files.attach(connection, _GOLD, gold)
    connection.register(_FRESH, fresh)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {trade_sql.union(_GOLD, _FRESH)}")
