"""Find the time ranges in which a table has rows from its files' bounds, so that a replay skips empty periods."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.query.iceberg.catalog import catalog_errors
from k2.query.iceberg.tables import load
from k2.query.times import TimeRange
from k2.schemas.values import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyiceberg.expressions import BooleanExpression

    from k2.query.engine import Engine

_INSTANT: Final = timedelta(microseconds=1)


def covered_ranges(
    engine: Engine, name: str, column: str, where: BooleanExpression, snapshot_id: int
) -> list[TimeRange]:
    """Return the disjoint ranges, in order, that the files of a table cover by a time column."""
    from pyiceberg.conversions import from_bytes

    with catalog_errors(name):
        table = load(engine.catalog, name)
        files = [task.file for task in table.scan(row_filter=where, snapshot_id=snapshot_id).plan_files()]
    field = table.schema().find_field(column)
    column_type: Any = field.field_type

    def time_of(bounds: Mapping[int, bytes]) -> datetime:
        since_1970: Any = from_bytes(column_type, bounds[field.field_id])
        return from_micros(since_1970)

    time_ranges = sorted(TimeRange(time_of(file.lower_bounds), time_of(file.upper_bounds) + _INSTANT) for file in files)
    return list(_merged(time_ranges))


def _merged(time_ranges: Iterable[TimeRange]) -> Iterator[TimeRange]:
    last: TimeRange | None = None
    for time_range in time_ranges:
        if last is not None and time_range.start <= last.end:
            last = TimeRange(last.start, max(last.end, time_range.end))
            continue
        if last is not None:
            yield last
        last = time_range
    if last is not None:
        yield last


def split_ranges(
    time_ranges: Iterable[TimeRange], start: datetime | None, end: datetime | None, length: timedelta
) -> Iterator[TimeRange]:
    """Yield the ranges within [start, end), split at multiples of `length`."""
    size = length // _INSTANT
    for time_range in time_ranges:
        piece_start = max(time_range.start, start) if start else time_range.start
        stop = min(time_range.end, end) if end else time_range.end
        while piece_start < stop:
            boundary = min(stop, from_micros((to_micros(piece_start) // size + 1) * size))
            yield TimeRange(piece_start, boundary)
            piece_start = boundary
