"""Query the tables of a platform as a library. The `Engine` keeps the catalog and DuckDB open and returns Arrow.

    with closing(Engine(platform)) as engine:
        table = engine.trades(symbol="BTCUSDT", start=start, end=end)

Methods return a `pyarrow.Table`; the `..._reader` methods return the same rows as a `pyarrow.RecordBatchReader`, for
results too large for memory. Times are UTC, ranges are [start, end), decimals are exact. An engine is thread-safe.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Required, TypedDict, Unpack

from k2.query import times
from k2.query.candles import activity_sql
from k2.query.candles.intervals import MINUTE
from k2.query.candles.reader import BarQuery, read_bars
from k2.query.errors import BadQuery
from k2.query.execution import cancellation, chunked_scan, top_n
from k2.query.execution.duckdb_results import duckdb_errors, to_reader, with_utc
from k2.query.execution.hybrid import HybridView
from k2.query.iceberg import data_files, snapshots
from k2.query.iceberg.scan_planner import ScanPlan, ScanPlanner
from k2.query.iceberg.snapshots import resolve_snapshot
from k2.query.sql import bars, record_sql, symbol_names, symbols, trade_sql
from k2.query.sql.cage import statements, tables
from k2.query.sql.cage.limits import Limits, parse_memory
from k2.query.sql.cage.pool import Cage
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.tables import BARS, GOLD, INSTRUMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatch, RecordBatchReader
    from pyarrow import Table as ArrowTable
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table

    from k2.common.platform import Platform
    from k2.query.candles.activity import ActivityBars
    from k2.query.candles.intervals import Interval
    from k2.query.kafka.raw_frames import RawFrames
    from k2.query.sql.trade_sql import TradePosition
    from k2.query.times import AsOf

DEFAULT_MEMORY: Final = "1GB"
_PREFETCH_THREADS: Final = 8  # queries whose next chunk may be read ahead at the same time
_DAY_MICROS: Final = 86_400_000_000
_TOP_N_LIMIT: Final = 100_000  # rows; a larger limit with a start is streamed in chunks


class TradesQuery(TypedDict, total=False):
    """The arguments of `Engine.trades`."""

    symbol: str | None
    exchange: str | None
    start: datetime | None
    end: datetime | None
    window: timedelta | None
    limit: int | None
    beyond: TradePosition | None
    as_of: AsOf | None
    hybrid: bool


class OhlcvQuery(TypedDict, total=False):
    """The arguments of `Engine.ohlcv`."""

    symbol: Required[str | Sequence[str]]
    interval: str | None
    bars: str | None
    tz: str | None
    exchange: str | None
    start: datetime | None
    end: datetime | None
    limit: int | None
    fill: str
    as_of: AsOf | None
    hybrid: bool


class Engine:
    """Query the tables of one platform.

    Every method raises `BadQuery` for a query that the caller must change, and `Unavailable` where the catalog or the
    files cannot be reached. `as_of` is a time, a snapshot id or a tag; without it the newest snapshot is read. A
    `hybrid` query adds the trades that Kafka holds and Gold does not yet.

    Args:
        platform: Where catalog, warehouse, Kafka and schema registry are.
        memory: DuckDB's memory limit, such as "1GB".
        limits: What each SQL statement of a user may use; without, as much memory as `memory`.
        warm: How many processes wait for such a statement.
        live: Follow Kafka in a thread and keep its newest trades in memory, as a server does for hybrid queries.

    """

    def __init__(
        self,
        platform: Platform,
        *,
        memory: str = DEFAULT_MEMORY,
        limits: Limits | None = None,
        warm: int = 0,
        live: bool = False,
    ) -> None:
        import duckdb

        self._planner = ScanPlanner(platform)
        self._hybrid = HybridView(self._planner, platform, TRADES, live=live)
        self._platform = platform
        self._cage = Cage(limits or Limits(parse_memory(memory)), warm=warm, network=tables.network(platform))
        self._prefetch = ThreadPoolExecutor(_PREFETCH_THREADS, "k2-prefetch")
        self._duckdb = duckdb.connect(config={"memory_limit": memory, "temp_directory": _spill_directory()})

    def close(self) -> None:
        """Close the catalog, DuckDB and Kafka, and end the statements of users."""
        self._cage.close()
        self._hybrid.close()
        self._prefetch.shutdown(cancel_futures=True)  # first: DuckDB cannot be closed while a statement runs
        self._duckdb.close()
        self._planner.close()

    @property
    def catalog(self) -> Catalog:
        """The Iceberg catalog that the engine reads."""
        return self._planner.catalog

    @property
    def cage(self) -> Cage:
        """Where the SQL statements of users run."""
        return self._cage

    @cached_property
    def raw_frames(self) -> RawFrames:
        """The frames in Kafka that an ingest could not parse."""
        from k2.query.kafka.raw_frames import RawFrames

        return RawFrames(self._platform)

    def trades(self, **query: Unpack[TradesQuery]) -> ArrowTable:
        """Return the rows of `trades_reader` as a table."""
        return self.trades_reader(**query).read_all()

    def ohlcv(self, **query: Unpack[OhlcvQuery]) -> ArrowTable:
        """Return the rows of `ohlcv_reader` as a table."""
        return self.ohlcv_reader(**query).read_all()

    def sql(self, statement: str, *, as_of: AsOf | None = None) -> ArrowTable:
        """Return the rows of `sql_reader` as a table."""
        return self.sql_reader(statement, as_of=as_of).read_all()

    def trades_reader(
        self,
        *,
        symbol: str | None = None,
        exchange: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        window: timedelta | None = None,
        limit: int | None = None,
        beyond: TradePosition | None = None,
        as_of: AsOf | None = None,
        hybrid: bool = False,
    ) -> RecordBatchReader:
        """Return Gold's trades in order of time: the first `limit` from `start` on, or without a start the newest.

        `window` stands for a start that long before `end`, or before now. `beyond` returns the trades after a position
        (without a start, before it): with a snapshot as `as_of`, or hybrid, the next page.
        """
        if limit is not None and limit < 1:
            raise BadQuery(f"limit {limit} is too small; give 1 or more")
        if window is not None:
            start, end = times.window_range(window, start, end, as_of)
        trade_filter = trade_sql.narrow(RecordFilter.of(symbol, exchange, start, end), beyond)
        parameters = trade_filter.parameters | (beyond.parameters if beyond else {})
        _reject_as_of(as_of, hybrid=hybrid)
        use_top_n = limit is not None and (limit <= _TOP_N_LIMIT or not trade_filter.start)
        if hybrid and not use_top_n:
            return self._execute(
                trade_filter, trade_sql.trades(trade_filter, limit, beyond), parameters, as_of, hybrid=True
            )
        tail = None
        if hybrid:
            with self._cursor(GOLD) as cursor, cursor:
                plan, tail = self._hybrid.split(cursor, trade_filter)
        else:
            plan = self._planner.plan(GOLD, trade_filter.expression("timestamp"), as_of)

        def scan(chunk: ScanPlan, row_limit: int | None) -> RecordBatchReader:
            return self._read(chunk, trade_sql.trades(trade_filter, row_limit, beyond), parameters)

        def merge(former: ArrowTable, latter: ArrowTable) -> ArrowTable:
            with self._cursor(GOLD) as cursor:
                cursor.register("former", former).register("latter", latter)
                union = record_sql.union(TRADES, "former", "latter")
                cursor.execute(f"CREATE OR REPLACE TEMP VIEW {trade_sql.VIEW} AS {union}")
                statement = trade_sql.trades(trade_filter, limit, beyond)
                return to_reader(cursor, cursor.sql(statement, params=parameters), GOLD).read_all()

        if use_top_n and limit is not None:
            rows = top_n.top_rows(plan, scan, merge, limit, newest=not trade_filter.start)
            reader = (merge(rows, tail) if tail is not None and tail.num_rows else rows).to_reader()
        else:
            chunks = chunked_scan.split(
                plan,
                chunked_scan.SINGLE_SYMBOL_CHUNK_ROWS
                if trade_filter.symbol and limit is None
                else chunked_scan.CHUNK_ROWS,
            )
            reader = chunked_scan.read_chunks(chunks, scan, self._prefetch)
            reader = chunked_scan.limit_rows(reader, limit) if limit else reader
        return _check_if_empty(reader, lambda: self._raise_if_never_traded(trade_filter, plan, hybrid=hybrid))

    def ohlcv_reader(self, **query: Unpack[OhlcvQuery]) -> RecordBatchReader:
        """Return the bars of symbols, a row per exchange, symbol and bar that had trades, with `complete`.

        `interval` is 1s to 1d, 1w or 1M, aligned to midnight of `tz` or UTC; `bars` is a rule instead, such as
        tick:1000. `limit` returns the newest intervals, or bars of a rule. `fill` gives intervals without trades a row.
        """
        return read_bars(self, BarQuery.of(**query))

    def bars_by_time(
        self, trade_filter: RecordFilter, interval: Interval, *, as_of: AsOf | None, hybrid: bool
    ) -> RecordBatchReader:
        """Return the bars of intervals that had trades."""
        _reject_as_of(as_of, hybrid=hybrid)
        calendar = interval.parameters(trade_filter.start, trade_filter.end, datetime.now(UTC))
        bar_plan = None
        if interval.unit == MINUTE:
            bar_plan = bars.plan_bars(self._planner, trade_filter, as_of, self._hybrid.tail_after if hybrid else None)
        if bar_plan is not None:
            bar_plan = replace(bar_plan, parameters=bar_plan.parameters | calendar)
            rows = self._read_bar_plan(trade_filter, bar_plan, bars.ohlcv(bar_plan, interval))
            gold = bar_plan.gold
            return _check_if_empty(rows, lambda: self._raise_if_never_traded(trade_filter, gold, hybrid=hybrid))
        return self._execute(
            trade_filter,
            trade_sql.ohlcv(trade_filter, interval),
            trade_filter.parameters | calendar,
            as_of,
            hybrid=hybrid,
        )

    def bars_by_activity(
        self, trade_filter: RecordFilter, rule: ActivityBars, *, as_of: AsOf | None, hybrid: bool
    ) -> ArrowTable:
        """Return the bars of one UTC day."""
        _reject_as_of(as_of, hybrid=hybrid)
        with duckdb_errors(GOLD), self._duckdb.cursor() as cursor:
            cancellation.register(cursor)
            cursor.execute("SET TimeZone = 'UTC'")
            if hybrid:
                self._hybrid.attach(cursor, trade_sql.VIEW, trade_filter)
            else:
                plan = self._planner.plan(GOLD, trade_filter.expression("timestamp"), as_of)
                data_files.attach(cursor, trade_sql.VIEW, plan)
            activity_sql.load(cursor, trade_filter.condition("timestamp"), trade_filter.parameters)
            table = activity_sql.bars(cursor, rule)
        return table.cast(with_utc(table.schema))

    def trading_days(self, trade_filter: RecordFilter, *, as_of: AsOf | None, hybrid: bool) -> list[int]:
        """Return the UTC days since 1970 in which there may be trades."""
        with self._cursor(GOLD) as cursor, cursor:
            if hybrid:
                plan, tail = self._hybrid.split(cursor, trade_filter)
            else:
                plan, tail = self._planner.plan(GOLD, trade_filter.expression("timestamp"), as_of), None
            if plan.hours or not (plan.files or plan.scan):
                days = {hour // 24 for hour in plan.hours}
            else:
                data_files.attach(cursor, trade_sql.VIEW, plan)
                statement = f"SELECT DISTINCT epoch_us(timestamp) // {_DAY_MICROS} FROM {trade_sql.VIEW}"  # noqa: S608
                days = {int(day) for (day,) in cursor.execute(statement).fetchall()}
        if tail is not None:
            days |= {moment // _DAY_MICROS for moment in tail.column("timestamp").cast("int64").to_pylist()}
        if not days:
            self._raise_if_never_traded(trade_filter, plan, hybrid=hybrid)
        return sorted(days)

    def run_over(self, tables: Mapping[str, ArrowTable], statement: str, parameters: dict[str, Any]) -> ArrowTable:
        """Run a statement of K2's own over tables in memory. Never pass user SQL."""
        with duckdb_errors(", ".join(tables)), self._duckdb.cursor() as cursor:
            cancellation.register(cursor)
            cursor.execute("SET TimeZone = 'UTC'")
            for name, table in tables.items():
                cursor.register(name, table)
            table = cursor.sql(statement, params=parameters).to_arrow_table()
        return table.cast(with_utc(table.schema))

    def gold(self) -> Table:
        """Return Gold's trades as they are now."""
        return self._planner.table(GOLD)

    def sql_reader(self, statement: str, *, as_of: AsOf | None = None) -> RecordBatchReader:
        """Run one statement of a user that reads K2's tables, in a process that can do nothing else.

        A time as `as_of` applies to every table; a snapshot id only to a statement over the one table that has it.
        """
        names = self._planner.names()
        with ExitStack() as resources:
            process = self._cage.process()
            resources.callback(process.close)
            cancellation.register(process)
            checked = statements.check(process, statement, names)
            if isinstance(as_of, int) and len(checked.tables) != 1:
                raise BadQuery(
                    f"the snapshot {as_of} belongs to one table and the statement reads {len(checked.tables)}; "
                    "give a time instead"
                )
            plans = {name: self._planner.plan(name, as_of=as_of) for name in checked.tables}
            if checked.lists_tables:
                empty = {name: self._planner.plan_at(self._planner.table(name), None) for name in names}
                plans = empty | plans
            columns = {name for plan in plans.values() for name in plan.table.schema().column_names}
            reader = process.run(tables.job(checked.text, plans), checked.position, columns)
            resources.pop_all()  # the reader ends the process now
            return reader

    def execute(
        self,
        statement: str,
        tables: Mapping[str, BooleanExpression | None],
        *,
        as_of: AsOf | None = None,
        **parameters: Any,
    ) -> ArrowTable:
        """Run a statement of K2's own and return its rows. Never pass user SQL: only `sql` is sandboxed.

        `tables` maps each table that the statement reads to a condition of its rows, by which files are skipped.
        """
        plans = {name: self._planner.plan(name, where, as_of) for name, where in tables.items()}
        with duckdb_errors(", ".join(tables)), self._duckdb.cursor() as cursor:
            cancellation.register(cursor)
            cursor.execute("SET TimeZone = 'UTC'")
            for name, plan in plans.items():
                data_files.attach(cursor, name, plan)
            table = cursor.sql(statement, params=parameters).to_arrow_table()
        return table.cast(with_utc(table.schema))

    def symbols(self, as_of: AsOf | None = None) -> ArrowTable:
        """Return every traded symbol: exchange, symbol, its assets, trades, first_trade, last_trade."""
        bar_plan = bars.plan_bars(self._planner, RecordFilter(), as_of)
        if bar_plan is None:
            return self.execute(symbols.from_trades(GOLD), {GOLD: None}, as_of=as_of)
        statement = symbols.from_bars(bar_plan, bars.MINUTES, trade_sql.VIEW)
        counted = self._read_bar_plan(RecordFilter(), bar_plan, statement).read_all()
        where, snapshot_id = symbols.last_trade_hours(counted), bar_plan.gold.snapshot_id
        return symbols.join_assets(counted, self.execute(symbols.assets(GOLD), {GOLD: where}, as_of=snapshot_id))

    @property
    def tail_conflicts(self) -> int:
        """How many records the last hybrid query left out because another one with their identity came first."""
        return self._hybrid.conflicts

    def topics(self) -> Mapping[str, str]:
        """Return the Kafka topics that Gold has consumed, with the exchange label of each."""
        return self._hybrid.topics()

    def names(self) -> tuple[str, ...]:
        """Return the names of the existing tables."""
        return self._planner.names()

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the names of a table's columns."""
        return tuple(self._planner.table(table).schema().column_names)

    def snapshots(self, table: str = GOLD) -> ArrowTable:
        """Return a table's snapshots, oldest first: the values that `as_of` accepts, and the rows each added."""
        return snapshots.list_snapshots(self._planner.table(table))

    def snapshot_id(self, as_of: AsOf | None = None, table: str = GOLD) -> int | None:
        """Return the id of the snapshot that `as_of` stands for. Passed as `as_of`, it makes results repeatable."""
        snapshot = resolve_snapshot(self._planner.table(table), as_of)
        return snapshot.snapshot_id if snapshot else None

    def _execute(
        self,
        trade_filter: RecordFilter,
        statement: str,
        parameters: dict[str, Any],
        as_of: AsOf | None,
        *,
        hybrid: bool,
    ) -> RecordBatchReader:
        if not hybrid:
            plan = self._planner.plan(GOLD, trade_filter.expression("timestamp"), as_of)
            reader = self._read(plan, statement, parameters)
        else:
            with self._cursor(GOLD) as cursor:
                plan = self._hybrid.attach(cursor, trade_sql.VIEW, trade_filter)
                reader = to_reader(cursor, cursor.sql(statement, params=parameters), GOLD)
        return _check_if_empty(reader, lambda: self._raise_if_never_traded(trade_filter, plan, hybrid=hybrid))

    def _read(self, plan: ScanPlan, statement: str, parameters: dict[str, Any]) -> RecordBatchReader:
        with self._cursor(GOLD) as cursor:
            statement = data_files.inline_view(cursor, trade_sql.VIEW, plan, statement)
            return to_reader(cursor, cursor.sql(statement, params=parameters), GOLD)

    @contextmanager
    def _cursor(self, subject: str) -> Iterator[DuckDBPyConnection]:
        """Open a cursor. The reader that is created with it closes it; on an error it is closed here."""
        with ExitStack() as resources, duckdb_errors(subject):
            cursor = self._duckdb.cursor()
            resources.enter_context(cursor)
            cancellation.register(cursor)
            cursor.execute("SET TimeZone = 'UTC'")
            yield cursor
            resources.pop_all()

    def _read_bar_plan(self, trade_filter: RecordFilter, bar_plan: bars.BarPlan, statement: str) -> RecordBatchReader:
        with self._cursor(f"{GOLD} and {BARS}") as cursor:
            data_files.attach(cursor, bars.MINUTES, bar_plan.bars)
            if bar_plan.tail is None:
                data_files.attach(cursor, trade_sql.VIEW, bar_plan.gold)
            else:
                self._hybrid.attach_union(cursor, trade_sql.VIEW, bar_plan.gold, bar_plan.tail, trade_filter)
            return to_reader(cursor, cursor.sql(statement, params=bar_plan.parameters), GOLD)

    def _raise_if_never_traded(self, trade_filter: RecordFilter, plan: ScanPlan, *, hybrid: bool) -> None:
        """Raise `BadQuery` if an empty result is due to a symbol that was never traded."""
        if trade_filter.symbol is None or plan.snapshot_id is None:
            return
        any_time = replace(trade_filter, exchange=None, start=None, end=None)
        traded = self.symbols(plan.snapshot_id).select(["symbol", "base_asset"]).to_pylist()
        error = symbol_names.never_traded(trade_filter.symbol, traded, self._listed())
        if error is not None and not (hybrid and self._hybrid.has_newer(plan, any_time)):
            raise error

    def _listed(self) -> list[dict[str, str]]:
        """Return the symbols that exchanges list now, as far as K2 recorded their lists."""
        if INSTRUMENTS not in self.names():
            return []
        statement = f"SELECT exchange, symbol FROM {INSTRUMENTS} WHERE valid_to IS NULL"  # noqa: S608
        rows: list[dict[str, str]] = self.execute(statement, {INSTRUMENTS: None}).to_pylist()
        return rows


def _reject_as_of(as_of: AsOf | None, *, hybrid: bool) -> None:
    if hybrid and as_of is not None:
        raise BadQuery("a hybrid query is always as of now; leave out as-of or hybrid")


def _spill_directory() -> str:
    """Return where DuckDB may spill to disk. It creates the directory when needed, and removes it."""
    return f"{tempfile.gettempdir()}/k2-query-{os.getpid()}"


def _check_if_empty(reader: RecordBatchReader, check: Any) -> RecordBatchReader:
    """Return the same rows; call `check` first if there are none."""
    import pyarrow as pa

    batches = (batch for batch in reader if batch.num_rows)
    first = next(batches, None)
    if first is None:
        check()
        return pa.RecordBatchReader.from_batches(reader.schema, iter(()))

    def rows() -> Iterator[RecordBatch]:
        yield first
        yield from batches

    return pa.RecordBatchReader.from_batches(reader.schema, rows())
