"""Which stretches of time a table has rows in, from its files' own bounds: empty years cost nothing."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.query.engine import Engine
from k2.query.iceberg.scan_planner import reaching
from k2.query.iceberg.tables import identifier
from k2.schemas.values import micros, moment

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression

_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """A stretch of time, [start, end)."""

    start: datetime
    end: datetime


def held(engine: Engine, name: str, column: str, where: "BooleanExpression", snapshot_id: int) -> list[Stretch]:
    """The stretches that a table's files cover by a column of times, in order, apart from each other."""
    from pyiceberg.conversions import from_bytes

    with reaching(name):
        table = engine.catalog.load_table(identifier(name))
        files = [task.file for task in table.scan(row_filter=where, snapshot_id=snapshot_id).plan_files()]
    field = table.schema().find_field(column)
    kind: Any = field.field_type

    def told(bounds: Mapping[int, bytes]) -> datetime:
        since_1970: Any = from_bytes(kind, bounds[field.field_id])
        return moment(since_1970)

    found = sorted(Stretch(told(file.lower_bounds), told(file.upper_bounds) + _INSTANT) for file in files)
    return list(_merged(found))


def _merged(found: Iterable[Stretch]) -> Iterator[Stretch]:
    last: Stretch | None = None
    for stretch in found:
        if last is not None and stretch.start <= last.end:
            last = Stretch(last.start, max(last.end, stretch.end))
            continue
        if last is not None:
            yield last
        last = stretch
    if last is not None:
        yield last


def cut(found: Iterable[Stretch], start: datetime | None, end: datetime | None, length: timedelta) -> Iterator[Stretch]:
    """The stretches within [start, end), in pieces that end where a multiple of `length` does."""
    size = length // _INSTANT
    for stretch in found:
        begin = max(stretch.start, start) if start else stretch.start
        stop = min(stretch.end, end) if end else stretch.end
        while begin < stop:
            border = min(stop, moment((micros(begin) // size + 1) * size))
            yield Stretch(begin, border)
            begin = border
