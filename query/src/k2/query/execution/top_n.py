"""Read the first or the newest N rows of a long table from as few of its files as possible.

Files are read from that end of time on, by the bounds that Iceberg keeps of each, until no other file can hold a row
that sorts before the rows read. The result does not depend on how the files are laid out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final

from k2.query.iceberg.scan_planner import ScanPlan

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, RecordBatchReader, Table

_FIRST_READ_ROWS: Final = 1_000  # of all symbols, in the files that are read first
_HOUR_MICROS: Final = 3_600_000_000
_GROWTH: Final = 4  # factor for each further read, so that rare symbols need few reads

Scan = Callable[[ScanPlan, int], "RecordBatchReader"]
Merge = Callable[["Table", "Table"], "Table"]
Times = Callable[["Table"], "ChunkedArray"]


def top_rows(plan: ScanPlan, scan: Scan, merge: Merge, times: Times, limit: int, *, newest: bool) -> Table:
    """Return the newest `limit` rows, or the first, in order of time.

    `merge` combines two such results, and `times` returns the time of each row of one.
    """
    if plan.scan is not None or not plan.files:
        return scan(plan, limit).read_all()
    keys = [-last if newest else first for first, last in plan.times]
    remaining = sorted(zip(keys, plan.rows, plan.files, strict=True), reverse=True)
    best: Table | None = None
    target_rows, threshold = max(_FIRST_READ_ROWS, 2 * limit), inf
    while remaining and remaining[-1][0] <= threshold:
        selected, rows = [], 0
        while remaining and remaining[-1][0] <= threshold and (rows < target_rows or threshold < inf):
            _, count, path = remaining.pop()
            selected.append(path)
            rows += count
        batch = scan(replace(plan, files=tuple(selected), times=(), hours=(), rows=()), limit).read_all()
        best = batch if best is None else merge(best, batch)
        target_rows, threshold = target_rows * _GROWTH, _threshold(times(best), limit, newest=newest)
    assert best is not None
    return best


def newest_hour(plan: ScanPlan) -> ScanPlan:
    """Return the plan of the files that may hold rows of the last hour before the newest."""
    if plan.scan is not None or not plan.times:
        return plan
    since = max(last for _, last in plan.times) - _HOUR_MICROS
    files = tuple(path for path, (_, last) in zip(plan.files, plan.times, strict=True) if last >= since)
    return replace(plan, files=files, times=(), hours=(), rows=())


def _threshold(times: ChunkedArray, limit: int, *, newest: bool) -> float:
    """Return the largest sort key of a file that may still hold a row before the last of `best`."""
    if len(times) < limit:
        return inf
    return float(-times[0].value if newest else times[-1].value)
