"""The first, or the newest, few rows of a long table, from as few of its files as hold them.

Files are asked from that end of time on, by the bounds that Iceberg keeps of each, until no other can hold a row that
comes before those found. How the files lie, by the hour or a hundred an hour, makes no difference to the answer.
"""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final

from k2.query.iceberg.scan_planner import Plan

if TYPE_CHECKING:
    from pyarrow import RecordBatchReader, Table

_ROWS: Final = 1_000  # that the files of the first look hold, of all symbols
_MORE: Final = 4  # times as many in each further one: what is rare is found in few looks

Ask = Callable[[Plan, int], "RecordBatchReader"]
Merge = Callable[["Table", "Table"], "Table"]


def few(plan: Plan, ask: Ask, merge: Merge, limit: int, *, newest: bool) -> "Table":
    """The newest `limit` rows, or the first, oldest first. `merge` gives those of two such answers."""
    if plan.scan is not None or not plan.files:
        return ask(plan, limit).read_all()
    ends = [-last if newest else first for first, last in plan.times]
    left = sorted(zip(ends, plan.rows, plan.files, strict=True), reverse=True)
    found: Table | None = None
    wanted, reach = max(_ROWS, 2 * limit), inf
    while left and left[-1][0] <= reach:
        look, rows = [], 0
        while left and left[-1][0] <= reach and (rows < wanted or reach < inf):
            _, count, path = left.pop()
            look.append(path)
            rows += count
        piece = ask(replace(plan, files=tuple(look), times=(), hours=(), rows=()), limit).read_all()
        found = piece if found is None else merge(found, piece)
        wanted, reach = wanted * _MORE, _reach(found, limit, newest=newest)
    assert found is not None
    return found


def _reach(found: "Table", limit: int, *, newest: bool) -> float:
    """How far away a file may begin, as `few` sorts them, to hold a row that comes before the last of those found."""
    if found.num_rows < limit:
        return inf
    times = found.column("timestamp")
    return float(-times[0].value if newest else times[-1].value)
