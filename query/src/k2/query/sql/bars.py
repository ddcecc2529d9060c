"""Plan which bars to read from `gold_ohlcv_1m` and which to compute from Gold's trades, with identical results.

Each commit of `gold_ohlcv_1m` names the snapshot of Gold that its bars were computed from. Between that snapshot and
the requested one, whichever is newer, only the hours that Gold's commits changed can differ. Those hours, and partial
minutes at both ends of the range, are computed from Gold itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from k2.query.candles.intervals import MINUTE, Interval
from k2.query.execution.hybrid import widen
from k2.query.iceberg.scan_planner import ScanPlan, ScanPlanner
from k2.query.iceberg.snapshots import resolve_snapshot
from k2.query.sql import trade_sql
from k2.query.sql.record_sql import RecordFilter
from k2.query.times import AsOf, TimeRange, to_rfc3339
from k2.schemas.bars import changed_hours, effective_summary
from k2.schemas.snapshots import GOLD_SNAPSHOT
from k2.schemas.tables import BARS, GOLD

if TYPE_CHECKING:
    from pyarrow import Table as ArrowTable
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

MINUTES: Final = "minutes"
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_GOLD_RANGES: Final = 24  # with more, the whole query is answered from Gold
TailReader = Callable[["Table", "Snapshot", RecordFilter], "ArrowTable"]


@dataclass(frozen=True, slots=True)
class BarPlan:
    """The files of both tables, the trades of the Kafka tail, and as SQL with its parameters what each answers."""

    bars: ScanPlan
    gold: ScanPlan
    tail: ArrowTable | None
    minutes: str  # the condition of the stored bars that are exact
    trades: str | None  # the condition of the trades that the other bars are computed from, if there are any
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Commit:
    id: int
    parent: int | None
    operation: str
    summary: Mapping[str, str]


def plan_bars(
    planner: ScanPlanner, trade_filter: RecordFilter, as_of: AsOf | None, read_tail: TailReader | None = None
) -> BarPlan | None:
    """Plan how to answer with the stored bars; return None where they do not help and the trades must be read.

    `read_tail` returns the trades that match and that a snapshot of Gold does not hold; it may repeat trades of Gold.
    """
    if BARS not in planner.names():
        return None
    bars, gold = planner.table(BARS), planner.table(GOLD)  # in this order, so that Gold has the snapshot the bars name
    requested = resolve_snapshot(gold, as_of)
    newest_bars = _newest_bars(bars)
    if requested is None or newest_bars is None:
        return None
    bars_snapshot, gold_snapshot_id = newest_bars
    hours = _differing_hours(gold, requested, gold_snapshot_id, trade_filter.exchange)
    if hours is None:
        return None
    tail = read_tail(gold, requested, trade_filter) if read_tail else None
    changed_ranges = [TimeRange.of(hour, _HOUR) for hour in hours]
    gold_ranges = _gold_ranges(trade_filter, [*changed_ranges, *_touched(tail, MINUTE)])
    if gold_ranges is None:  # the tail usually touches a minute or two; if they are many, whole hours are fewer ranges
        gold_ranges = _gold_ranges(trade_filter, [*changed_ranges, *_touched(tail, _HOUR)])
    if gold_ranges is None:
        return None
    whole_minutes = _whole_minutes(trade_filter)
    gold_ranges = [time_range for time_range in gold_ranges if time_range.start < time_range.end]
    return BarPlan(
        planner.plan_at(bars, bars_snapshot, _bars_expression(whole_minutes)),
        planner.plan_at(
            gold,
            requested,
            _gold_expression(trade_filter, gold_ranges, widened=tail is not None),
            past=as_of is not None,
        )
        if gold_ranges
        else ScanPlan(gold, gold.schema(), requested.snapshot_id, ()),
        tail,
        *_conditions(whole_minutes, gold_ranges),
    )


def ohlcv(bar_plan: BarPlan, interval: Interval) -> str:
    """Return the SQL of the bars of an interval of whole minutes."""
    parts = [_stored_bars(bar_plan.minutes)]
    if bar_plan.trades:
        parts.append(trade_sql.with_totals(trade_sql.computed(Interval(MINUTE), bar_plan.trades)))
    return trade_sql.rolled_up(" UNION ALL ".join(parts), interval)


def _touched(trades: ArrowTable | None, unit: timedelta) -> list[TimeRange]:
    """Return the hours or minutes that contain trades."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if trades is None:
        return []
    seconds = trades.column("timestamp").cast(pa.timestamp("s", "UTC"), safe=False).cast(pa.int64())
    numbers = {int(second // unit.total_seconds()) for second in pc.unique(seconds).to_pylist()}
    return [TimeRange.of(number, unit) for number in numbers]


def _newest_bars(bars: Table) -> tuple[Snapshot, int] | None:
    """Return the newest snapshot that names its Gold snapshot, or a later one with the same rows, and that id."""
    same_rows: Snapshot | None = None
    for snapshot, commit in _lineage(bars, bars.current_snapshot()):
        same_rows = same_rows or snapshot
        if (gold_snapshot_id := commit.summary.get(GOLD_SNAPSHOT)) is not None:
            return same_rows, int(gold_snapshot_id)
        if commit.operation != "replace":
            same_rows = None
    return None


def _differing_hours(gold: Table, requested: Snapshot, gold_snapshot_id: int, exchange: str | None) -> set[int] | None:
    """Return the hours whose bars may differ between two snapshots of Gold; None if unknown, or every hour."""
    changes = changed_hours((commit for _, commit in _lineage(gold, requested)), gold_snapshot_id)
    if changes is None:
        newer = gold.snapshot_by_id(gold_snapshot_id)
        changes = changed_hours((commit for _, commit in _lineage(gold, newer)), requested.snapshot_id)
    return changes.of(exchange) if changes is not None else None


def _lineage(table: Table, snapshot: Snapshot | None) -> Iterator[tuple[Snapshot, _Commit]]:
    by_id = {each.snapshot_id: each for each in table.snapshots()}
    while snapshot is not None:
        summary = snapshot.summary
        effective = effective_summary(
            snapshot.snapshot_id, summary.additional_properties if summary else {}, table.properties
        )
        operation = summary.operation.value if summary else ""
        yield snapshot, _Commit(snapshot.snapshot_id, snapshot.parent_snapshot_id, operation, effective)
        snapshot = by_id.get(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None


def _whole_minutes(trade_filter: RecordFilter) -> RecordFilter:
    """Return the filter narrowed to whole minutes."""
    start, end = trade_filter.start, trade_filter.end
    return replace(
        trade_filter,
        start=start and start + (_EPOCH - start) % MINUTE,
        end=end and end - (end - _EPOCH) % MINUTE,
    )


def _gold_ranges(trade_filter: RecordFilter, time_ranges: Iterable[TimeRange]) -> list[TimeRange] | None:
    """Return what Gold must answer: partial minutes at the ends, and `time_ranges`. None if all, or too many."""
    inner = _whole_minutes(trade_filter)
    if inner.start and inner.end and inner.start >= inner.end:
        return None
    gold_ranges = [TimeRange(trade_filter.start, inner.start)] if trade_filter.start and inner.start else []
    for time_range in _merge(time_ranges):
        start = max(time_range.start, inner.start) if inner.start else time_range.start
        end = min(time_range.end, inner.end) if inner.end else time_range.end
        if (start, end) == (inner.start, inner.end):
            return None
        gold_ranges += [TimeRange(start, end)] if start < end else []
    gold_ranges += [TimeRange(inner.end, trade_filter.end)] if trade_filter.end and inner.end else []
    return gold_ranges if len(gold_ranges) <= _MAX_GOLD_RANGES else None


def _merge(time_ranges: Iterable[TimeRange]) -> list[TimeRange]:
    merged: list[TimeRange] = []
    for time_range in sorted(time_ranges, key=lambda time_range: time_range.start):
        if merged and merged[-1].end >= time_range.start:
            merged[-1] = TimeRange(merged[-1].start, max(merged[-1].end, time_range.end))
        else:
            merged.append(time_range)
    return merged


def _gold_expression(trade_filter: RecordFilter, gold_ranges: list[TimeRange], *, widened: bool) -> BooleanExpression:
    """Match the trades of the ranges; `widened`, also those that Kafka may give a slightly different time."""
    from pyiceberg.expressions import Or

    parts = [replace(trade_filter, start=time_range.start, end=time_range.end) for time_range in gold_ranges]
    return reduce(Or, ((widen(part) if widened else part).expression("timestamp") for part in parts))


def _bars_expression(whole_minutes: RecordFilter) -> BooleanExpression:
    from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan, LessThanOrEqual

    start, end = whole_minutes.start, whole_minutes.end
    expression = replace(whole_minutes, start=None, end=None).expression()
    if start:
        expression = And(expression, GreaterThanOrEqual(term="exchange_date", value=start.date().isoformat()))
        expression = And(expression, GreaterThanOrEqual(term="open_time", value=start.isoformat()))
    if end:
        expression = And(expression, LessThanOrEqual(term="exchange_date", value=end.date().isoformat()))
        expression = And(expression, LessThan(term="open_time", value=end.isoformat()))
    return expression


def _conditions(whole_minutes: RecordFilter, gold_ranges: list[TimeRange]) -> tuple[str, str | None, dict[str, Any]]:
    """Return the condition of the stored bars, that of the trades (if any), and the parameters of both."""
    any_time = replace(whole_minutes, start=None, end=None)
    parameters = any_time.parameters
    stored, computed = [any_time.condition()], []
    for name, sign, moment in (("from", ">=", whole_minutes.start), ("until", "<", whole_minutes.end)):
        if moment:
            stored.append(f"open_time {sign} ${name}::TIMESTAMPTZ")
            parameters[name] = to_rfc3339(moment)
    for number, time_range in enumerate(gold_ranges):
        in_range = f"{{0}} >= $from{number}::TIMESTAMPTZ AND {{0}} < $until{number}::TIMESTAMPTZ"
        parameters |= {f"from{number}": to_rfc3339(time_range.start), f"until{number}": to_rfc3339(time_range.end)}
        stored.append(f"NOT ({in_range.format('open_time')})")
        computed.append(f"({in_range.format('timestamp')})")
    trades = f"{any_time.condition()} AND ({' OR '.join(computed)})" if computed else None
    return " AND ".join(stored), trades, parameters


def _stored_bars(condition: str) -> str:
    return (
        f"SELECT exchange, symbol, open_time, open, high, low, close, volume, trade_count, notional "  # noqa: S608
        f"FROM {MINUTES} WHERE {condition}"
    )
