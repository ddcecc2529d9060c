"""Bars from the maintained table where it is exact, from the trades elsewhere: the same answer to the last digit.

Each commit of `gold_ohlcv_1m` names the snapshot of Gold that its bars equal. Between that snapshot and the one that is
asked for, whichever is the newer, only the hours that Gold's commits have touched can differ: those, and what of a
minute lies at the ends of a range, are answered from Gold itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from k2.query.execution.hybrid import around
from k2.query.iceberg.scan_planner import Lake, Plan
from k2.query.iceberg.snapshots import snapshot_of
from k2.query.sql.trade_sql import FIRST, LAST, UNITS, VIEW, Wanted, bucket
from k2.query.times import AsOf, text
from k2.schemas.bars import GOLD_SNAPSHOT, changed, summary
from k2.schemas.tables import BARS, GOLD

if TYPE_CHECKING:
    from pyarrow import Table as ArrowTable
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

MINUTES: Final = "minutes"
MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Newer = Callable[["Table", "Snapshot", Wanted], "ArrowTable"]
_MOST_STRETCHES: Final = 24  # a question that Gold must answer in more places is left to Gold as a whole


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time, [start, end)."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, number: int, unit: timedelta) -> "Stretch":
        """One hour or minute, by its number since 1970."""
        return cls(_EPOCH + number * unit, _EPOCH + (number + 1) * unit)


@dataclass(frozen=True, slots=True)
class Mixture:
    """The files of both tables, the trades that Gold has not yet, and what of each answers: as SQL, with its values."""

    bars: Plan
    gold: Plan
    newer: "ArrowTable | None"
    minutes: str  # the bars that are exact
    trades: str | None  # the trades of the others, where there are any
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Commit:
    id: int
    parent: int | None
    operation: str
    summary: Mapping[str, str]


def mixture(lake: Lake, wanted: Wanted, as_of: AsOf | None, newer: Newer | None = None) -> Mixture | None:
    """How to answer with the maintained bars; None where they are of no use: the answer then comes from the trades.

    `newer` tells the trades that are wanted and that a snapshot of Gold does not hold; they may be Gold's own again.
    """
    if BARS not in lake.names():
        return None
    bars, gold = lake.table(BARS), lake.table(GOLD)  # in this order: Gold then has the snapshot that the bars name
    asked = snapshot_of(gold, as_of)
    made = _newest(bars)
    if asked is None or made is None:
        return None
    snapshot, made_of = made
    hours = _differing(gold, asked, made_of, wanted.exchange)
    if hours is None:
        return None
    tail = newer(gold, asked, wanted) if newer else None
    behind = [Stretch.of(hour, _HOUR) for hour in hours]
    stretches = _stretches(wanted, [*behind, *_touched(tail, MINUTE)])
    if stretches is None:  # Kafka's newest trades touch a minute or two; where they lie far apart, hours are fewer
        stretches = _stretches(wanted, [*behind, *_touched(tail, _HOUR)])
    if stretches is None:
        return None
    inner, left = _inner(wanted), [stretch for stretch in stretches if stretch.start < stretch.end]
    return Mixture(
        lake.planned(bars, snapshot, _of_bars(inner)),
        lake.planned(gold, asked, _of_gold(wanted, left, wide=tail is not None), past=as_of is not None)
        if left
        else Plan(gold, gold.schema(), asked.snapshot_id, ()),
        tail,
        *_conditions(inner, left),
    )


def _touched(trades: "ArrowTable | None", unit: timedelta) -> list[Stretch]:
    """The hours or minutes in which trades lie."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if trades is None:
        return []
    seconds = trades.column("timestamp").cast(pa.timestamp("s", "UTC"), safe=False).cast(pa.int64())
    numbers = {int(second // unit.total_seconds()) for second in pc.unique(seconds).to_pylist()}
    return [Stretch.of(number, unit) for number in numbers]


def _newest(bars: "Table") -> "tuple[Snapshot, int] | None":
    """The newest snapshot that says of which Gold snapshot its bars are, or a later one with the same rows."""
    same: Snapshot | None = None
    for snapshot, commit in _lineage(bars, bars.current_snapshot()):
        same = same or snapshot
        if (made_of := commit.summary.get(GOLD_SNAPSHOT)) is not None:
            return same, int(made_of)
        if commit.operation != "replace":
            same = None
    return None


def _differing(gold: "Table", asked: "Snapshot", made_of: int, exchange: str | None) -> set[int] | None:
    """Hours whose bars may differ between two snapshots of Gold; None if that cannot be told, or is every hour."""
    found = changed((commit for _, commit in _lineage(gold, asked)), made_of)
    if found is None:
        newer = gold.snapshot_by_id(made_of)
        found = changed((commit for _, commit in _lineage(gold, newer)), asked.snapshot_id)
    return found.of(exchange) if found is not None else None


def _lineage(table: "Table", snapshot: "Snapshot | None") -> "Iterator[tuple[Snapshot, _Commit]]":
    every = {found.snapshot_id: found for found in table.snapshots()}
    while snapshot is not None:
        told = snapshot.summary
        facts = summary(snapshot.snapshot_id, told.additional_properties if told else {}, table.properties)
        yield (
            snapshot,
            _Commit(snapshot.snapshot_id, snapshot.parent_snapshot_id, told.operation.value if told else "", facts),
        )
        snapshot = every.get(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None


def _inner(wanted: Wanted) -> Wanted:
    """The whole minutes of a question."""
    start, end = wanted.start, wanted.end
    return replace(wanted, start=start and start + (_EPOCH - start) % MINUTE, end=end and end - (end - _EPOCH) % MINUTE)


def _stretches(wanted: Wanted, places: Iterable[Stretch]) -> list[Stretch] | None:
    """What Gold must answer: the ends of the range, and the places, within it. None if that is all, or too many."""
    inner = _inner(wanted)
    if inner.start and inner.end and inner.start >= inner.end:
        return None
    found = [Stretch(wanted.start, inner.start)] if wanted.start and inner.start else []
    for place in _merged(places):
        start = max(place.start, inner.start) if inner.start else place.start
        end = min(place.end, inner.end) if inner.end else place.end
        if (start, end) == (inner.start, inner.end):
            return None
        found += [Stretch(start, end)] if start < end else []
    found += [Stretch(inner.end, wanted.end)] if wanted.end and inner.end else []
    return found if len(found) <= _MOST_STRETCHES else None


def _merged(places: Iterable[Stretch]) -> list[Stretch]:
    found: list[Stretch] = []
    for place in sorted(places, key=lambda place: place.start):
        if found and found[-1].end >= place.start:
            found[-1] = Stretch(found[-1].start, max(found[-1].end, place.end))
        else:
            found.append(place)
    return found


def _of_gold(wanted: Wanted, stretches: list[Stretch], *, wide: bool) -> "BooleanExpression":
    """Where the trades of the stretches are; `wide`, and those that Kafka's may be with a slightly different time."""
    from pyiceberg.expressions import Or

    parts = [replace(wanted, start=stretch.start, end=stretch.end) for stretch in stretches]
    return reduce(Or, ((around(part) if wide else part).expression for part in parts))


def _of_bars(inner: Wanted) -> "BooleanExpression":
    from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan, LessThanOrEqual

    found = replace(inner, start=None, end=None).expression
    if inner.start:
        found = And(found, GreaterThanOrEqual(term="exchange_date", value=inner.start.date().isoformat()))
        found = And(found, GreaterThanOrEqual(term="start", value=inner.start.isoformat()))
    if inner.end:
        found = And(found, LessThanOrEqual(term="exchange_date", value=inner.end.date().isoformat()))
        found = And(found, LessThan(term="start", value=inner.end.isoformat()))
    return found


def ohlcv(mixture: Mixture, bar: timedelta) -> str:
    """The bars of an interval of whole minutes."""
    parts = [_stored(mixture.minutes)] + ([_computed(mixture.trades)] if mixture.trades else [])
    return _rolled_up(" UNION ALL ".join(parts), bar)


def _conditions(inner: Wanted, stretches: list[Stretch]) -> tuple[str, str | None, dict[str, Any]]:
    whose = replace(inner, start=None, end=None)
    parameters = whose.parameters
    kept, gold = [whose.condition], []
    for name, sign, moment in (("from", ">=", inner.start), ("until", "<", inner.end)):
        if moment:
            kept.append(f"start {sign} ${name}::TIMESTAMPTZ")
            parameters[name] = text(moment)
    for number, stretch in enumerate(stretches):
        within = f"{{0}} >= $from{number}::TIMESTAMPTZ AND {{0}} < $until{number}::TIMESTAMPTZ"
        parameters |= {f"from{number}": text(stretch.start), f"until{number}": text(stretch.end)}
        kept.append(f"NOT ({within.format('start')})")
        gold.append(f"({within.format('timestamp')})")
    trades = f"{whose.condition} AND ({' OR '.join(gold)})" if gold else None
    return " AND ".join(kept), trades, parameters


def _stored(condition: str) -> str:
    too_long = "error('a sum of prices times quantities has more than 38 digits')"
    units = f"coalesce(replace(notional::VARCHAR, '.', '')::HUGEINT, {too_long}::HUGEINT)"
    return (
        f"SELECT exchange, symbol, start, open, high, low, close, volume, trades, {units} AS notional "  # noqa: S608
        f"FROM {MINUTES} WHERE {condition}"
    )


def _computed(condition: str) -> str:
    price, quantity = UNITS.format("price"), UNITS.format("quantity")
    return (
        f"SELECT exchange, symbol, {bucket(MINUTE, 'timestamp')} AS start, {FIRST} AS open, max(price) AS high, "  # noqa: S608
        f"min(price) AS low, {LAST} AS close, sum(quantity) AS volume, count(*) AS trades, "
        f"sum({price} * {quantity}) AS notional FROM {VIEW} WHERE {condition} GROUP BY ALL"
    )


def _rolled_up(minutes: str, bar: timedelta) -> str:
    traded = "replace(sum(volume)::VARCHAR, '.', '')::HUGEINT"
    vwap = f"(sum(notional) + {traded} // 2) // {traded}"
    return (
        f"SELECT exchange, symbol, {bucket(bar, 'minute.start')} AS start, arg_min(open, minute.start) AS open, "  # noqa: S608
        f"max(high) AS high, min(low) AS low, arg_max(close, minute.start) AS close, "
        f"sum(volume)::DECIMAL(38,8) AS volume, sum(trades)::BIGINT AS trades, "
        f"(({vwap})::DECIMAL(18,0) * 0.00000001::DECIMAL(8,8))::DECIMAL(18,8) AS vwap "
        f"FROM ({minutes}) AS minute GROUP BY ALL ORDER BY start, exchange, symbol"
    )
