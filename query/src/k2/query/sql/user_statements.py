"""Run the statements of users: plan the tables that one reads, and run it in a process that can do nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from k2.query.errors import BadQuery, BadStatement
from k2.query.execution import cancellation
from k2.query.sql.cage import statements, tables
from k2.query.sql.derived import functions, views

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyarrow import RecordBatchReader
    from pyiceberg.expressions import BooleanExpression

    from k2.query.iceberg.scan_planner import ScanPlanner
    from k2.query.sql.cage.pool import Cage
    from k2.query.sql.cage.tree import Call
    from k2.query.sql.derived.functions import TableFunction
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
    known_views = views.existing(existing)
    with ExitStack() as resources:
        process = cage.process()
        resources.callback(process.close)
        cancellation.register(process)
        checked = statements.check(process, statement, [*existing, *known_views], functions.NAMES)
        reads = checked.reads
        shown = known_views if reads.lists_tables else reads.tables
        used = [known_views[name] for name in shown if name in known_views]
        whole = [known_views[name].table if name in known_views else name for name in reads.tables]
        try:
            calls = [(functions.find(call, existing), call) for call in reads.calls]
            where = _conditions(whole, calls)
        except BadStatement as error:
            raise BadStatement(error.sentence, checked.position(error.offset)) from None
        if isinstance(as_of, int) and len(where) != 1:
            raise BadQuery(
                f"the snapshot {as_of} belongs to one table and the statement reads {len(where)}; give a time instead"
            )
        plans = {name: planner.plan(name, condition, as_of) for name, condition in where.items()}
        if reads.lists_tables:
            plans = {name: planner.plan_at(planner.table(name), None) for name in existing} | plans
        columns = {name for plan in plans.values() for name in plan.table.schema().column_names}
        columns.update(*(view.columns for view in used))
        definitions = [view.definition for view in used]
        definitions += dict.fromkeys(function.definition for function, _ in calls)
        reader = process.run(tables.job(checked.text, plans, definitions), checked.position, columns)
        resources.pop_all()  # the reader ends the process now
        return reader


def _conditions(
    whole: Iterable[str], calls: Iterable[tuple[TableFunction, Call]]
) -> dict[str, BooleanExpression | None]:
    """Return what the rows have that a statement needs of each table: any for those that it reads by themselves."""
    from pyiceberg.expressions import Or

    where: dict[str, BooleanExpression | None] = dict.fromkeys(whole)
    for function, call in calls:
        for table, condition in function.conditions(call).items():
            before = where.get(table, condition)
            where[table] = before and condition and (before if before == condition else Or(before, condition))
    return where
