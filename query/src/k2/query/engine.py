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
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Required, TypedDict, Unpack

from k2.common.validation_errors import format_value
from k2.query.book.reader import BookReader
from k2.query.candles import activity_sql
from k2.query.candles.intervals import MINUTE
from k2.query.candles.reader import BarQuery, read_bars
from k2.query.errors import BadQuery
from k2.query.execution import cancellation
from k2.query.execution.duckdb_results import duckdb_errors, to_reader, with_utc
from k2.query.execution.record_scan import RecordScan, RecordsQuery, checked_if_empty, open_cursor, reject_as_of
from k2.query.execution.top_n import newest_hour
from k2.query.iceberg import data_files, snapshots
from k2.query.iceberg.scan_planner import ScanPlan, ScanPlanner
from k2.query.iceberg.snapshots import resolve_snapshot
from k2.query.sql import bars, symbol_names, symbols, trade_sql, user_statements
from k2.query.sql.cage import tables
from k2.query.sql.cage.limits import Limits, parse_memory
from k2.query.sql.cage.pool import Cage
from k2.query.sql.quote_sql import QUOTE_LIST
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import BOOK, QUOTES, TRADES
from k2.schemas.tables import BARS, GOLD, INSTRUMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatchReader
    from pyarrow import Table as ArrowTable
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table

    from k2.common.platform import Platform
    from k2.query.book.reader import BookQuery, BookState
    from k2.query.candles.activity import ActivityBars
    from k2.query.candles.intervals import Interval
    from k2.query.kafka.raw_frames import RawFrames
    from k2.query.times import AsOf
    from k2.schemas.channels import Channel

DEFAULT_MEMORY: Final = "1GB"
_PREFETCH_THREADS: Final = 8  # queries whose next chunk may be read ahead at the same time
_DAY_MICROS: Final = 86_400_000_000


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
    `hybrid` query adds the records that Kafka holds and Gold does not yet.

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

        self._planner = planner = ScanPlanner(platform)
        self._platform = platform
        self._cage = Cage(limits or Limits(parse_memory(memory)), warm=warm, network=tables.network(platform))
        self._prefetch = ThreadPoolExecutor(_PREFETCH_THREADS, "k2-prefetch")
        self._duckdb = duckdb.connect(config={"memory_limit": memory, "temp_directory": _spill_directory()})
        self._scans = {
            records.channel: RecordScan(records, planner, platform, self._duckdb, self._prefetch, live=live)
            for records in (trade_sql.TRADE_LIST, QUOTE_LIST)
        }
        self._trades = self._scans[TRADES]
        self._books = BookReader(planner, platform, self._duckdb, self._never_stored)

    def close(self) -> None:
        """Close the catalog, DuckDB and Kafka, and end the statements of users."""
        self._cage.close()
        for scan in self._scans.values():
            scan.close()
        self._books.close()
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

    def trades(self, **query: Unpack[RecordsQuery]) -> ArrowTable:
        """Return the rows of `trades_reader` as a table."""
        return self.trades_reader(**query).read_all()

    def quotes(self, **query: Unpack[RecordsQuery]) -> ArrowTable:
        """Return the rows of `quotes_reader` as a table."""
        return self.quotes_reader(**query).read_all()

    def ohlcv(self, **query: Unpack[OhlcvQuery]) -> ArrowTable:
        """Return the rows of `ohlcv_reader` as a table."""
        return self.ohlcv_reader(**query).read_all()

    def sql(self, statement: str, *, as_of: AsOf | None = None) -> ArrowTable:
        """Return the rows of `sql_reader` as a table."""
        return self.sql_reader(statement, as_of=as_of).read_all()

    def records_reader(self, channel: Channel, **query: Unpack[RecordsQuery]) -> RecordBatchReader:
        """Return a channel's records in Gold in order of time: the first `limit` from `start` on, or the newest.

        Without a start the newest are returned. `window` stands for a start that long before `end`, or before now.
        `beyond` returns the records after a position (without a start, before it): with a snapshot as `as_of`, or
        hybrid, the next page. Prices and quantities are decimals. A record without exchange time has that of arrival.
        """
        scan, hybrid = self._scans[channel], query.get("hybrid", False)
        if channel is TRADES:
            return scan.reader(query, partial(self._raise_if_never_traded, hybrid=hybrid))
        return scan.reader(query, partial(self._raise_if_not_stored, scan, hybrid=hybrid))

    def trades_reader(self, **query: Unpack[RecordsQuery]) -> RecordBatchReader:
        """Return trades: `records_reader` of their channel."""
        return self.records_reader(TRADES, **query)

    def quotes_reader(self, **query: Unpack[RecordsQuery]) -> RecordBatchReader:
        """Return quotes: `records_reader` of their channel."""
        return self.records_reader(QUOTES, **query)

    def books_reader(self, query: BookQuery) -> RecordBatchReader:
        """Return order books at the instants of a query: a row for each exchange and instant.

        The columns are exchange, symbol, at, time (of the last message), age_ms, snapshot_time, verdict, last_id,
        connections, bids and asks: lists of price and quantity as decimals, best first.
        """
        return self._books.reader(query)

    def book_states(self, symbol: str, exchange: str | None) -> list[BookState]:
        """Return the newest book of each connection, with what Kafka holds and Gold does not yet."""
        return self._books.states(symbol, exchange)

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
        reject_as_of(as_of, hybrid=hybrid)
        calendar = interval.parameters(trade_filter.start, trade_filter.end, datetime.now(UTC))
        bar_plan = None
        if interval.unit == MINUTE:
            bar_plan = bars.plan_bars(
                self._planner, trade_filter, as_of, self._trades.hybrid.tail_after if hybrid else None
            )
        if bar_plan is not None:
            bar_plan = replace(bar_plan, parameters=bar_plan.parameters | calendar)
            rows = self._read_bar_plan(trade_filter, bar_plan, bars.ohlcv(bar_plan, interval))
            gold = bar_plan.gold
            return checked_if_empty(rows, lambda: self._raise_if_never_traded(trade_filter, gold, hybrid=hybrid))
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
        reject_as_of(as_of, hybrid=hybrid)
        with duckdb_errors(GOLD), self._duckdb.cursor() as cursor:
            cancellation.register(cursor)
            cursor.execute("SET TimeZone = 'UTC'")
            if hybrid:
                self._trades.hybrid.attach(cursor, trade_sql.VIEW, trade_filter)
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
                plan, tail = self._trades.hybrid.split(cursor, trade_filter)
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
        return user_statements.read(self._cage, self._planner, statement, as_of)

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
        return self._trades.hybrid.conflicts

    def topics(self, channel: Channel = TRADES) -> Mapping[str, str]:
        """Return a channel's Kafka topics that Gold has consumed, with the exchange label of each."""
        return self._books.topics() if channel is BOOK else self._scans[channel].hybrid.topics()

    def names(self) -> tuple[str, ...]:
        """Return the names of the existing tables."""
        return self._planner.names()

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the names of an existing table's columns."""
        return tuple(self._planner.table(table).schema().column_names)

    def relations(self) -> dict[str, tuple[str, ...]]:
        """Return the tables and views that `sql` can read, each with the names of its columns."""
        return user_statements.relations(self._planner)

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
            reader = self._trades.read(plan, statement, parameters)
        else:
            with self._cursor(GOLD) as cursor:
                plan = self._trades.hybrid.attach(cursor, trade_sql.VIEW, trade_filter)
                reader = to_reader(cursor, cursor.sql(statement, params=parameters), GOLD)
        return checked_if_empty(reader, lambda: self._raise_if_never_traded(trade_filter, plan, hybrid=hybrid))

    def _cursor(self, subject: str) -> AbstractContextManager[DuckDBPyConnection]:
        return open_cursor(self._duckdb, subject)

    def _read_bar_plan(self, trade_filter: RecordFilter, bar_plan: bars.BarPlan, statement: str) -> RecordBatchReader:
        with self._cursor(f"{GOLD} and {BARS}") as cursor:
            data_files.attach(cursor, bars.MINUTES, bar_plan.bars)
            if bar_plan.tail is None:
                data_files.attach(cursor, trade_sql.VIEW, bar_plan.gold)
            else:
                self._trades.hybrid.attach_union(cursor, trade_sql.VIEW, bar_plan.gold, bar_plan.tail, trade_filter)
            return to_reader(cursor, cursor.sql(statement, params=bar_plan.parameters), GOLD)

    def _raise_if_never_traded(self, trade_filter: RecordFilter, plan: ScanPlan, *, hybrid: bool) -> None:
        """Raise `BadQuery` if an empty result is due to a symbol that was never traded."""
        if trade_filter.symbol is None or plan.snapshot_id is None:
            return
        any_time = replace(trade_filter, exchange=None, start=None, end=None)
        traded = self.symbols(plan.snapshot_id).select(["symbol", "base_asset"]).to_pylist()
        error = symbol_names.never_stored(trade_filter.symbol, traded, self._listed(), TRADES, self._trades.noun)
        if error is not None and not (hybrid and self._trades.hybrid.has_newer(plan, any_time)):
            raise error

    def _listed(self) -> list[dict[str, str]]:
        """Return the symbols that exchanges list now, as far as K2 recorded their lists."""
        if INSTRUMENTS not in self.names():
            return []
        statement = f"SELECT exchange, symbol, base_asset FROM {INSTRUMENTS} WHERE valid_to IS NULL"  # noqa: S608
        rows: list[dict[str, str]] = self.execute(statement, {INSTRUMENTS: None}).to_pylist()
        return rows

    def _raise_if_not_stored(
        self, scan: RecordScan, record_filter: RecordFilter, plan: ScanPlan, *, hybrid: bool
    ) -> None:
        """Raise `BadQuery` if an empty result is due to a symbol of which there is no record at all."""
        symbol = record_filter.symbol
        if symbol is None or plan.snapshot_id is None or scan.is_stored(symbol, plan):
            return
        if not (hybrid and scan.hybrid.has_newer(plan, RecordFilter(symbol))):
            error = self._never_stored(scan.channel, scan.noun, symbol, plan.snapshot_id)
            raise error or BadQuery(f"no {scan.noun} of {format_value(symbol)} is stored; use another symbol")

    def _never_stored(self, channel: Channel, noun: str, symbol: str, as_of: AsOf | None) -> BadQuery | None:
        """Return the error for a symbol without any record of a channel; None if nothing better is to be advised."""
        plan = newest_hour(self._planner.plan(channel.gold.name, as_of=as_of))
        with self._cursor(channel.gold.name) as cursor, cursor:
            data_files.attach(cursor, channel.name, plan)
            names = cursor.execute(f"SELECT DISTINCT symbol FROM {channel.name}").fetchall()  # noqa: S608
        listed = self._listed()
        traded = self.symbols().to_pylist() if GOLD in self.names() else []
        assets = {row["symbol"]: row["base_asset"] for row in (*listed, *traded)}
        stored = [{"symbol": name, "base_asset": assets.get(name, "")} for (name,) in names]
        return symbol_names.never_stored(symbol, stored, listed, channel, noun)


def _spill_directory() -> str:
    """Return where DuckDB may spill to disk. It creates the directory when needed, and removes it."""
    return f"{tempfile.gettempdir()}/k2-query-{os.getpid()}"
