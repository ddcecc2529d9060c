"""What the ledger says about bars: whether every trade of each was captured. No table and no clock in `Ledger`.

A bar is complete if all hours that it overlaps are. It is not if an hour misses ids, if a gap of an hour without a
final verdict is not repaired, or if the bar is not over. Everything else is unverifiable: hours not audited yet, and
exchanges whose ids are not consecutive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.query.errors import BadQuery
from k2.schemas.channels import TRADES
from k2.schemas.states import GapState, HourState
from k2.schemas.tables import COMPLETENESS, GAPS
from k2.schemas.values import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from k2.query.engine import Engine
    from k2.query.sql.record_sql import RecordFilter

TRUE: Final = "true"
FALSE: Final = "false"
UNVERIFIABLE: Final = "unverifiable"
_HOUR: Final = timedelta(hours=1)
_HOUR_MICROS: Final = _HOUR // timedelta(microseconds=1)

Pair = tuple[str, str]  # exchange and symbol


@dataclass(frozen=True, slots=True)
class Ledger:
    """Verdicts by hour since 1970 and hours with gaps, of each exchange and symbol, and the time that is now."""

    now: int  # microseconds since 1970
    hours: Mapping[Pair, Mapping[int, str]] = field(default_factory=dict)
    gaps: Mapping[Pair, frozenset[int]] = field(default_factory=dict)

    def complete(self, pair: Pair, start: int, end: int) -> str:
        """Return whether every trade of [start, end), in microseconds since 1970, was captured."""
        if end > self.now:
            return FALSE
        hours, gaps = self.hours.get(pair, {}), self.gaps.get(pair, frozenset())
        result = TRUE
        for hour in range(start // _HOUR_MICROS, (end - 1) // _HOUR_MICROS + 1):
            state = hours.get(hour)
            if state == HourState.INCOMPLETE:
                return FALSE
            if state != HourState.COMPLETE:
                if hour in gaps:
                    return FALSE
                result = UNVERIFIABLE
        return result


def read(engine: Engine, record_filter: RecordFilter, moment: datetime | None) -> Ledger:
    """Read what the ledger says, or said at a `moment`, of a filter's hours."""
    start, end = record_filter.start, record_filter.end
    wide = replace(record_filter, start=start and _floor(start), end=end and _floor(end) + _HOUR)
    hours: dict[Pair, dict[int, str]] = {}
    gaps: dict[Pair, set[int]] = {}
    for row in _hours(engine, wide, moment):
        hours.setdefault((row["exchange"], row["symbol"]), {})[row["hour"]] = row["state"]
    later = replace(wide, end=wide.end and wide.end + _HOUR)
    for row in _gaps(engine, later, moment):
        # A gap is detected at the next trade: what it misses is of that hour or, after a quiet time, of the one before.
        gaps.setdefault((row["exchange"], row["symbol"]), set()).update({row["hour"] - 1, row["hour"]})
    now = to_micros(moment or datetime.now(UTC))
    return Ledger(now, hours, {pair: frozenset(numbers) for pair, numbers in gaps.items()})


def moment_of(engine: Engine, snapshot_id: int | None) -> datetime | None:
    """Return until when the ledger judged a snapshot of Gold: until the next one; None for the newest."""
    gold = engine.gold()
    current = gold.current_snapshot()
    if snapshot_id is None or current is None or snapshot_id == current.snapshot_id:
        return None
    later = [each.timestamp_ms for each in gold.snapshots() if each.parent_snapshot_id == snapshot_id]
    if not later:
        (own,) = [each.timestamp_ms for each in gold.snapshots() if each.snapshot_id == snapshot_id]
        later = [own + 1]
    return from_micros((min(later) - 1) * 1000)


def versions(engine: Engine) -> tuple[int | None, ...]:
    """Return the newest snapshots of the ledger's tables."""
    names = engine.names()
    return tuple(engine.snapshot_id(table=name) for name in (COMPLETENESS, GAPS) if name in names)


def _hours(engine: Engine, wide: RecordFilter, moment: datetime | None) -> Iterable[dict[str, Any]]:
    statement = f"""SELECT exchange, symbol, epoch_us(hour) // {_HOUR_MICROS} AS hour, state FROM {COMPLETENESS}
                    WHERE channel = $channel AND {wide.condition("hour")}
                    QUALIFY row_number() OVER (PARTITION BY exchange, symbol, hour ORDER BY checked_at DESC) = 1"""  # noqa: S608
    return _rows(engine, COMPLETENESS, statement, wide, "hour", moment)


def _gaps(engine: Engine, later: RecordFilter, moment: datetime | None) -> Iterable[dict[str, Any]]:
    lost = ", ".join(f"'{state}'" for state in (GapState.OPEN, GapState.UNRECOVERABLE))
    statement = f"""SELECT DISTINCT exchange, symbol, epoch_us(detected_at) // {_HOUR_MICROS} AS hour FROM {GAPS}
                    WHERE channel = $channel AND state IN ({lost}) AND {later.condition("detected_at")}"""  # noqa: S608
    return _rows(engine, GAPS, statement, later, "detected_at", moment)


def _rows(
    engine: Engine, table: str, statement: str, where: RecordFilter, column: str, moment: datetime | None
) -> Iterable[dict[str, Any]]:
    if table not in engine.names():
        return []
    parameters = where.parameters | {"channel": TRADES.name}
    try:
        table_rows = engine.execute(statement, {table: where.time_expression(column)}, as_of=moment, **parameters)
    except BadQuery as error:
        if moment is not None and "has nothing as of" in str(error):
            return []
        raise
    rows: list[dict[str, Any]] = table_rows.to_pylist()
    return rows


def _floor(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
