"""Run the statements of users: plan the tables that one reads, and run it in a process that can do nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from k2.query.errors import BadQuery
from k2.query.execution import cancellation
from k2.query.sql.cage import statements, tables
from k2.query.sql.derived import views

if TYPE_CHECKING:
    from pyarrow import RecordBatchReader

    from k2.query.iceberg.scan_planner import ScanPlanner
    from k2.query.sql.cage.pool import Cage
    from k2.query.times import AsOf


def relations(planner: ScanPlanner) -> dict[str, tuple[str, ...]]:
    """Return the tables and views that a statement can read now, each with its columns."""
    existing = planner.names()
    stored = {name: tuple(planner.table(name).schema().column_names) for name in existing}
    return stored | {name: tuple(view.columns) for name, view in views.existing(existing).items()}


def read(cage: Cage, planner: ScanPlanner, statement: str, as_of: AsOf | None) -> RecordBatchReader:
    """Run one statement that reads tables and views, all as of the same point, and return its rows as they come.

    Raises `BadStatement` for any other text, and `BadQuery` for a snapshot id if it reads several tables.
    """
    existing = planner.names()
    derived = views.existing(existing)
    with ExitStack() as resources:
        process = cage.process()
        resources.callback(process.close)
        cancellation.register(process)
        checked = statements.check(process, statement, [*existing, *derived])
        shown = derived if checked.lists_tables else checked.tables
        used = [derived[name] for name in shown if name in derived]
        names = dict.fromkeys(derived[name].table if name in derived else name for name in checked.tables)
        if isinstance(as_of, int) and len(names) != 1:
            raise BadQuery(
                f"the snapshot {as_of} belongs to one table and the statement reads {len(names)}; give a time instead"
            )
        plans = {name: planner.plan(name, as_of=as_of) for name in names}
        if checked.lists_tables:
            plans = {name: planner.plan_at(planner.table(name), None) for name in existing} | plans
        columns = {name for plan in plans.values() for name in plan.table.schema().column_names}
        columns.update(*(view.columns for view in used))
        job = tables.job(checked.text, plans, {view.name: view.select for view in used})
        reader = process.run(job, checked.position, columns)
        resources.pop_all()  # the reader ends the process now
        return reader
