"""Answer a query for bars: the newest ones, those of several symbols, filled, and judged by the ledger.

The ledger is read before the trades: what is repaired in between is at worst called incomplete, never the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from k2.query.candles import activity, filling, intervals, ledger
from k2.query.candles.activity import ActivityBars
from k2.query.candles.filling import Fill
from k2.query.candles.intervals import DAY, FIRST_TRADE, Interval
from k2.query.errors import BadQuery
from k2.query.sql.record_sql import RecordFilter
from k2.query.times import TimeRange
from k2.schemas.values import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyarrow import RecordBatch, RecordBatchReader, Table

    from k2.query.candles.ledger import Ledger
    from k2.query.engine import Engine
    from k2.query.times import AsOf

DEFAULT_INTERVAL: Final = "1m"
MAX_SYMBOLS: Final = 50
_LOOKBACK: Final = timedelta(days=7)  # for the last close before a filled range
_INSTANT: Final = timedelta(microseconds=1)
_ATTEMPTS: Final = (1, 32)  # times the length of the newest bars, before everything is read
_DAY_MICROS: Final = DAY // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class BarQuery:
    """A validated query for bars, by time or by activity."""

    record_filter: RecordFilter
    bars: Interval | ActivityBars
    limit: int | None
    fill: Fill
    as_of: AsOf | None
    hybrid: bool

    @classmethod
    def of(
        cls,
        *,
        symbol: str | Sequence[str],
        interval: str | None = None,
        bars: str | None = None,
        tz: str | None = None,
        exchange: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        fill: str = Fill.NONE,
        as_of: AsOf | None = None,
        hybrid: bool = False,
    ) -> BarQuery:
        """Validate a user's input. Raises `BadQuery`."""
        if limit is not None and limit < 1:
            raise BadQuery(f"limit {limit} is too small; give 1 or more")
        filled = filling.parse_fill(fill)
        if bars is not None and (interval is not None or tz is not None or filled is not Fill.NONE):
            raise BadQuery("bars by activity are of UTC days and have no interval, tz or fill; leave these out")
        symbols = split_symbols(symbol) if isinstance(symbol, str) else list(symbol)
        if not 0 < len(symbols) <= MAX_SYMBOLS:
            raise BadQuery(f"give 1 to {MAX_SYMBOLS} symbols, separated by commas, such as BTCUSDT,ETHUSDT")
        rule = activity.parse_bars(bars) if bars is not None else None
        kind = rule or intervals.parse_interval(interval or DEFAULT_INTERVAL, tz)
        record_filter = _within_history(RecordFilter.of_symbols(symbols, exchange, start, end))
        return cls(record_filter, kind, limit, filled, as_of, hybrid)


def split_symbols(text: str) -> list[str]:
    """Return the symbols of a list separated by commas, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def version(engine: Engine, query: BarQuery) -> tuple[object, ...] | None:
    """Return what else than Gold's snapshot the result depends on; None if it is of the past and cannot change."""
    if ledger.moment_of(engine, engine.snapshot_id(query.as_of)) is not None:
        return None
    now, interval = datetime.now(UTC), query.bars if isinstance(query.bars, Interval) else Interval(DAY)
    end = query.record_filter.end
    return (*ledger.versions(engine), end if end and end <= now else interval.floor(now))


def read_bars(engine: Engine, query: BarQuery) -> RecordBatchReader:
    """Return the bars of a query in order of time, exchange and symbol, with what the ledger says about each."""
    snapshot_id = None if query.as_of is None else engine.snapshot_id(query.as_of)
    moment = ledger.moment_of(engine, snapshot_id)
    if isinstance(query.bars, ActivityBars):
        _newest_trade(engine, query)
        return _by_activity(engine, query, query.bars, moment)
    return _ByTime(engine, query, query.bars, moment).read()


def _newest_trade(engine: Engine, query: BarQuery) -> datetime | None:
    """Return the time of the newest trade before the end of the range. Raises `BadQuery` for a symbol without any."""
    record_filter, times = query.record_filter, []
    for symbol in record_filter.all_symbols:
        newest = engine.trades(
            symbol=symbol,
            exchange=record_filter.exchange,
            end=record_filter.end,
            limit=1,
            as_of=query.as_of,
            hybrid=query.hybrid,
        )
        times += newest.column("timestamp").to_pylist()
    return max(times, default=None)


class _ByTime:
    """One query for bars by time."""

    def __init__(self, engine: Engine, query: BarQuery, interval: Interval, moment: datetime | None) -> None:
        self._engine, self._query, self._interval, self._moment = engine, query, interval, moment
        self._now = moment or datetime.now(UTC)

    def read(self) -> RecordBatchReader:
        query = self._query
        if query.limit and query.fill is Fill.NONE:
            return self._newest(query.limit).to_reader()
        if query.record_filter.symbols:  # a misspelt one of several would only be missing
            _newest_trade(self._engine, query)
        return self._judged(query.record_filter) if query.fill is Fill.NONE else self._filled().to_reader()

    def _bars(self, record_filter: RecordFilter, interval: Interval | None = None) -> RecordBatchReader:
        query = self._query
        return self._engine.bars_by_time(
            record_filter, interval or self._interval, as_of=query.as_of, hybrid=query.hybrid
        )

    def _judged(self, record_filter: RecordFilter) -> RecordBatchReader:
        verdicts = ledger.read(self._engine, record_filter, self._moment)
        return _judge(self._bars(record_filter), verdicts, self._interval, self._query.record_filter)

    def _newest(self, limit: int) -> Table:
        """Return the bars of the newest intervals that have any, and read as little of the past as that takes."""
        record_filter = self._query.record_filter
        newest = _newest_trade(self._engine, self._query)
        starts = [self._interval.back(newest + _INSTANT, limit * factor) for factor in _ATTEMPTS] if newest else []
        for start in [each for each in starts if record_filter.start is None or each > record_filter.start]:
            table = self._judged(replace(record_filter, start=start)).read_all()
            if len(table.column("open_time").unique()) >= limit:
                break
        else:
            table = self._judged(record_filter).read_all()
        opens = sorted(table.column("open_time").unique().to_pylist())
        return _since(table, opens[-limit]) if len(opens) > limit else table

    def _filled(self) -> Table:
        import pyarrow as pa

        query, record_filter, upper = self._query, self._query.record_filter, self._upper
        start = record_filter.start
        if query.limit:
            newest = self._interval.back(upper, query.limit)
            start = max(start, newest) if start else newest
        narrowed = replace(record_filter, start=start)
        verdicts = ledger.read(self._engine, narrowed, self._moment)
        bars = self._bars(narrowed).read_all()
        if start is None:
            if not bars.num_rows:
                return _judge(bars.to_reader(), verdicts, self._interval, record_filter).read_all()
            start = bars.column("open_time")[0].as_py()
        opens = list(islice(self._interval.opens(start, upper), filling.MAX_ROWS + 1)) if start < upper else []
        closes = self._previous_closes(replace(record_filter, start=start))
        pairs = set(closes) | set(zip(bars["exchange"].to_pylist(), bars["symbol"].to_pylist(), strict=True))
        if record_filter.exchange:
            pairs |= {(record_filter.exchange, symbol) for symbol in record_filter.all_symbols}
        ordered = sorted(pairs)
        exchanges, symbols = ([pair[place] for pair in ordered] for place in (0, 1))
        price = bars.schema.field("close").type
        previous = pa.array([closes.get(pair) for pair in ordered], price)
        names = ["exchange", "symbol", "previous_close"]
        traded = pa.table([pa.array(exchanges, pa.string()), pa.array(symbols, pa.string()), previous], names)
        filled = self._engine.run_over(
            {filling.BARS: bars, filling.PAIRS: traded},
            filling.statement(query.fill),
            filling.parameters(opens, len(ordered)),
        )
        filled = filled.select(bars.schema.names).cast(bars.schema)
        return _judge(filled.to_reader(), verdicts, self._interval, record_filter).read_all()

    def _previous_closes(self, record_filter: RecordFilter) -> dict[ledger.Pair, Any]:
        """Return the last close before the range of each exchange and symbol."""
        start = record_filter.start
        assert start is not None
        before = replace(record_filter, start=start - _LOOKBACK, end=start)
        rows = self._bars(before, Interval(DAY)).read_all().select(["exchange", "symbol", "close"]).to_pylist()
        return {(row["exchange"], row["symbol"]): row["close"] for row in rows}  # in order of time: the last remains

    @property
    def _upper(self) -> datetime:
        """The end of the newest bars: that of the range, but not in the future."""
        end = self._query.record_filter.end
        return min(end, self._now) if end else self._now


def _judge(
    bars: RecordBatchReader, verdicts: Ledger, interval: Interval, record_filter: RecordFilter
) -> RecordBatchReader:
    """Append what the ledger says about each bar. One that the range cuts is not complete."""
    start = to_micros(record_filter.start) if record_filter.start else None
    end = to_micros(record_filter.end) if record_filter.end else None
    ends: dict[int, int] = {}
    length = interval.length // timedelta(microseconds=1) if interval.is_uniform and interval.length else None

    def complete(pair: ledger.Pair, opened: int) -> str:
        if length is not None:
            closed = opened + length
        elif (closed := ends.get(opened, 0)) == 0:
            closed = ends[opened] = to_micros(interval.after(from_micros(opened)))
        if (start is not None and opened < start) or (end is not None and closed > end):
            return ledger.FALSE
        return verdicts.complete(pair, opened, closed)

    return _with_complete(bars, lambda batch: [complete(pair, opened) for pair, opened in _pairs(batch)])


def _by_activity(engine: Engine, query: BarQuery, rule: ActivityBars, moment: datetime | None) -> RecordBatchReader:
    """Return bars by activity: whole days are read, and the bars that begin in the range returned."""
    import pyarrow as pa

    record_filter = query.record_filter
    whole_days = _whole_days(record_filter)
    verdicts = ledger.read(engine, whole_days, moment)
    days = engine.trading_days(whole_days, as_of=query.as_of, hybrid=query.hybrid)

    def of_day(day: int) -> Table:
        time_range = TimeRange.of(day, DAY)
        within = replace(record_filter, start=time_range.start, end=time_range.end)
        table = engine.bars_by_activity(within, rule, as_of=query.as_of, hybrid=query.hybrid)
        judged = _judge_activity(table.to_reader(), verdicts, day).read_all().drop_columns(["closed"])
        return _until(_since(judged, record_filter.start), record_filter.end)

    if query.limit:
        newest: list[Table] = []
        for day in reversed(days):
            newest.insert(0, of_day(day))
            if sum(table.num_rows for table in newest) >= query.limit:
                break
        table = pa.concat_tables(newest or [of_day(0)])
        return table.slice(max(0, table.num_rows - query.limit)).to_reader()
    first = of_day(days[0]) if days else of_day(0)

    def batches() -> Iterator[RecordBatch]:
        yield from first.to_batches()
        for day in days[1:]:
            yield from of_day(day).to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def _judge_activity(bars: RecordBatchReader, verdicts: Ledger, day: int) -> RecordBatchReader:
    """Append what the ledger says: a bar depends on all trades of its day up to its end, the last one on all."""
    start, end = day * _DAY_MICROS, (day + 1) * _DAY_MICROS

    def complete(batch: RecordBatch) -> list[str]:
        ends = [to_micros(closed) + 1 for closed in batch.column("close_time").to_pylist()]
        closed = batch.column("closed").to_pylist()
        return [
            verdicts.complete(pair, start, until if done else end)
            for (pair, _), until, done in zip(_pairs(batch), ends, closed, strict=True)
        ]

    return _with_complete(bars, complete)


def _within_history(record_filter: RecordFilter) -> RecordFilter:
    """Narrow a range to the time in which there may be trades, so that no calendar is longer."""
    latest, start, end = datetime.now(UTC) + DAY, record_filter.start, record_filter.end
    return replace(
        record_filter,
        start=start and min(max(start, FIRST_TRADE), latest),
        end=end and min(max(end, FIRST_TRADE), latest),
    )


def _whole_days(record_filter: RecordFilter) -> RecordFilter:
    """Widen a range to whole days."""
    days, start, end = Interval(DAY), record_filter.start, record_filter.end
    last = end - _INSTANT if end else None
    return replace(record_filter, start=start and days.floor(start), end=last and days.after(days.floor(last)))


def _pairs(batch: RecordBatch) -> Iterator[tuple[ledger.Pair, int]]:
    """Yield exchange and symbol, and the microseconds at which the bar begins, of each row."""
    import pyarrow as pa

    names = (batch.column(name).to_pylist() for name in ("exchange", "symbol"))
    opens = batch.column("open_time").cast(pa.int64()).to_pylist()
    yield from zip(zip(*names, strict=True), opens, strict=True)


def _with_complete(bars: RecordBatchReader, complete: Callable[[RecordBatch], list[str]]) -> RecordBatchReader:
    import pyarrow as pa

    schema = bars.schema.append(pa.field("complete", pa.string()))

    def batches() -> Iterator[RecordBatch]:
        for batch in bars:
            yield pa.RecordBatch.from_arrays([*batch.columns, pa.array(complete(batch), pa.string())], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _since(table: Table, start: datetime | None) -> Table:
    import pyarrow.compute as pc

    return table if start is None else table.filter(pc.greater_equal(table["open_time"], start))


def _until(table: Table, end: datetime | None) -> Table:
    import pyarrow.compute as pc

    return table if end is None else table.filter(pc.less(table["open_time"], end))
