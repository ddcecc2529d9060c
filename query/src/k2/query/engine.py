"""The query engine as a library: one object that keeps the catalog and DuckDB open and answers in Arrow.

    with closing(Engine(platform)) as engine:
        table = engine.trades(symbol="BTCUSDT", start=start, end=end)

Answers are `pyarrow.Table`s; the `..._reader` methods give the same as a `pyarrow.RecordBatchReader`, for what is too
large to be held whole. Times are UTC, ranges are [start, end), decimals are exact. Several threads may use one engine.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Required, TypedDict, Unpack

from k2.common.platform import Platform
from k2.common.validation_errors import shown
from k2.query import times
from k2.query.errors import BadQuery
from k2.query.execution import cancellation, chunked_scan, top_n
from k2.query.execution.duckdb_results import reader_of, told, utc
from k2.query.execution.hybrid import Hybrid
from k2.query.iceberg import data_files, snapshots
from k2.query.iceberg.scan_planner import Lake, Plan
from k2.query.iceberg.snapshots import snapshot_of
from k2.query.sql import bars, symbols, trade_sql
from k2.query.sql.guard import tables_of
from k2.query.sql.trade_sql import Place, Wanted
from k2.query.times import AsOf
from k2.schemas.tables import BARS, GOLD

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatch, RecordBatchReader
    from pyarrow import Table as ArrowTable
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.expressions import BooleanExpression

    from k2.query.kafka.raw_frames import Frames

MEMORY: Final = "1GB"
_AHEAD: Final = 8  # answers whose next piece is made at once
_HELD: Final = 100_000  # rows from a start that are held at once; more are streamed
_NAMED: Final = 20  # symbols that a message lists


class TradesQuery(TypedDict, total=False):
    """What `Engine.trades` can be asked."""

    symbol: str | None
    exchange: str | None
    start: datetime | None
    end: datetime | None
    window: timedelta | None
    limit: int | None
    beyond: Place | None
    as_of: AsOf | None
    hybrid: bool


class OhlcvQuery(TypedDict, total=False):
    """What `Engine.ohlcv` can be asked."""

    symbol: Required[str]
    interval: str
    exchange: str | None
    start: datetime | None
    end: datetime | None
    as_of: AsOf | None
    hybrid: bool


class Engine:
    """Answers questions about the tables of one platform.

    Every method raises `BadQuery` for a question that must be changed and `Unavailable` where catalog or files are not
    to be had. `as_of` is a time, a snapshot id or a tag; without it the newest snapshot answers. A `hybrid` answer has,
    after Gold's trades, those that Kafka has and Gold has not yet; a server keeps the newest of them in memory, `live`.
    `memory` is DuckDB's, and as much again that of all `statements` of SQL which are asked at once.
    """

    def __init__(self, platform: Platform, *, memory: str = MEMORY, statements: int = 1, live: bool = False) -> None:
        import duckdb

        self._lake = Lake(platform)
        self._hybrid = Hybrid(self._lake, platform, live=live)
        self._platform = platform
        self._share = _share(memory, statements)
        self._ahead = ThreadPoolExecutor(_AHEAD, "k2-ahead")
        self._duckdb = duckdb.connect(config={"memory_limit": memory, "temp_directory": _spill()})

    def close(self) -> None:
        """Lets go of the catalog, of DuckDB, and of Kafka."""
        self._hybrid.close()
        self._ahead.shutdown(cancel_futures=True)  # DuckDB refuses to be closed under a statement
        self._duckdb.close()
        self._lake.close()

    @property
    def catalog(self) -> "SqlCatalog":
        """The Iceberg catalog that it reads."""
        return self._lake.catalog

    @cached_property
    def frames(self) -> "Frames":
        """What an ingest could not use, in Kafka."""
        from k2.query.kafka.raw_frames import Frames

        return Frames(self._platform)

    def trades(self, **query: Unpack["TradesQuery"]) -> "ArrowTable":
        """What `trades_reader` gives, whole."""
        return self.trades_reader(**query).read_all()

    def ohlcv(self, **query: Unpack["OhlcvQuery"]) -> "ArrowTable":
        """What `ohlcv_reader` gives, whole."""
        return self.ohlcv_reader(**query).read_all()

    def sql(self, statement: str, *, as_of: AsOf | None = None) -> "ArrowTable":
        """What `sql_reader` gives, whole."""
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
        beyond: Place | None = None,
        as_of: AsOf | None = None,
        hybrid: bool = False,
    ) -> "RecordBatchReader":
        """Gold's trades in order of time, at most `limit`: the first from `start` on, or without a start the newest.

        `window` stands for a start that long before `end`, or before now. `beyond` a trade's place are those that come
        after it, or, without a start, before it: with `as_of` a snapshot, the next page.
        """
        if limit is not None and limit < 1:
            raise BadQuery(f"the limit {limit} is too small; give 1 or more")
        if window is not None:
            start, end = times.window(window, start, end, as_of)
        wanted = Wanted.of(symbol, exchange, start, end).beyond(beyond)
        parameters = wanted.parameters | (beyond.parameters if beyond else {})
        _only_now(as_of, hybrid=hybrid)
        few = limit is not None and (limit <= _HELD or not wanted.start)
        if hybrid and not few:
            return self._ask(wanted, trade_sql.trades(wanted, limit, beyond), parameters, as_of, hybrid=True)
        fresh = None
        if hybrid:
            with self._cursor(GOLD) as cursor, cursor:
                plan, fresh = self._hybrid.apart(cursor, wanted)
        else:
            plan = self._lake.plan(GOLD, wanted.expression, as_of)

        def ask(piece: Plan, most: int | None) -> "RecordBatchReader":
            return self._read(piece, trade_sql.trades(wanted, most, beyond), parameters)

        def merge(former: "ArrowTable", latter: "ArrowTable") -> "ArrowTable":
            with self._cursor(GOLD) as cursor:
                cursor.register("former", former).register("latter", latter)
                cursor.execute(f"CREATE OR REPLACE TEMP VIEW {trade_sql.VIEW} AS {trade_sql.union('former', 'latter')}")
                statement = trade_sql.trades(wanted, limit, beyond)
                return reader_of(cursor, cursor.sql(statement, params=parameters), GOLD).read_all()

        if few and limit is not None:
            found = top_n.few(plan, ask, merge, limit, newest=not wanted.start)
            reader = (merge(found, fresh) if fresh is not None and fresh.num_rows else found).to_reader()
        else:
            parts = chunked_scan.of(
                plan, chunked_scan.ROWS_FOR_ONE if wanted.symbol and limit is None else chunked_scan.ROWS
            )
            reader = chunked_scan.whole(parts, ask, self._ahead)
            reader = chunked_scan.at_most(reader, limit) if limit else reader
        return _or_unknown(reader, lambda: self._refuse_unknown_symbol(wanted, plan, hybrid=hybrid))

    def ohlcv_reader(
        self,
        *,
        symbol: str,
        interval: str = "1m",
        exchange: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: AsOf | None = None,
        hybrid: bool = False,
    ) -> "RecordBatchReader":
        """Bars of a symbol, one row an exchange and interval (1s to 1d, aligned to UTC); none where nothing traded."""
        bar = times.bar(interval)
        wanted = Wanted.of(symbol, exchange, start, end)
        _only_now(as_of, hybrid=hybrid)
        mixture = None
        if not bar % bars.MINUTE:
            mixture = bars.mixture(self._lake, wanted, as_of, self._hybrid.newer if hybrid else None)
        if mixture is not None:
            reader = self._mixed(wanted, mixture, bars.ohlcv(mixture, bar))
            gold = mixture.gold
            return _or_unknown(reader, lambda: self._refuse_unknown_symbol(wanted, gold, hybrid=hybrid))
        return self._ask(wanted, trade_sql.ohlcv(wanted, bar), wanted.parameters, as_of, hybrid=hybrid)

    def sql_reader(self, statement: str, *, as_of: AsOf | None = None) -> "RecordBatchReader":
        """What one SELECT over K2's tables gives. It runs apart from everything, and can reach nothing else.

        A time as `as_of` applies to every table; a snapshot id only to a statement over the one table that has it.
        """
        import duckdb

        names = tables_of(statement, self._lake.names())
        if isinstance(as_of, int) and len(names) != 1:
            raise BadQuery(f"the snapshot {as_of} is one table's and the statement reads {len(names)}; give a time")
        plans = {name: self._lake.plan(name, as_of=as_of) for name in names}
        with ExitStack() as held, told("the statement"):
            connection = duckdb.connect(config={"memory_limit": self._share, "temp_directory": ""})
            held.enter_context(connection)
            cancellation.adopt(connection)
            _fence(connection, plans)
            reader = reader_of(connection, connection.sql(statement), "the statement")
            held.pop_all()  # from here on the reader closes it
            return reader

    def ask(
        self,
        statement: str,
        tables: "Mapping[str, BooleanExpression | None]",
        *,
        as_of: AsOf | None = None,
        **parameters: Any,
    ) -> "ArrowTable":
        """What a statement of K2's own gives, whole: never a user's, which `sql` fences in.

        `tables` are those that it reads, each with what its rows have in common, by which files are skipped.
        """
        plans = {name: self._lake.plan(name, where, as_of) for name, where in tables.items()}
        with told(", ".join(tables)), self._duckdb.cursor() as cursor:
            cancellation.adopt(cursor)
            cursor.execute("SET TimeZone = 'UTC'")
            for name, plan in plans.items():
                data_files.attach(cursor, name, plan)
            found = cursor.sql(statement, params=parameters).to_arrow_table()
        return found.cast(utc(found.schema))

    def symbols(self, as_of: AsOf | None = None) -> "ArrowTable":
        """Every symbol that was ever traded: exchange, symbol, its assets, trades, first_trade, last_trade."""
        mixture = bars.mixture(self._lake, Wanted(), as_of)
        if mixture is None:
            return self.ask(symbols.of_trades(GOLD), {GOLD: None}, as_of=as_of)
        statement = symbols.of_bars(mixture, bars.MINUTES, trade_sql.VIEW)
        counted = self._mixed(Wanted(), mixture, statement).read_all()
        where, snapshot_id = symbols.last_hours(counted), mixture.gold.snapshot_id
        return symbols.joined(counted, self.ask(symbols.assets(GOLD), {GOLD: where}, as_of=snapshot_id))

    def topics(self) -> Mapping[str, str]:
        """Kafka's topics that Gold has taken trades from, and the exchange label of each."""
        return self._hybrid.topics()

    def names(self) -> tuple[str, ...]:
        """The tables that there are."""
        return self._lake.names()

    def snapshots(self, table: str = GOLD) -> "ArrowTable":
        """A table's snapshots, oldest first: what `as_of` can name, and what each added."""
        return snapshots.snapshots(self._lake.table(table))

    def snapshot_id(self, as_of: AsOf | None = None, table: str = GOLD) -> int | None:
        """The snapshot that `as_of` stands for: give it back as `as_of` and the answer never changes."""
        found = snapshot_of(self._lake.table(table), as_of)
        return found.snapshot_id if found else None

    def _ask(
        self, wanted: Wanted, statement: str, parameters: dict[str, Any], as_of: AsOf | None, *, hybrid: bool
    ) -> "RecordBatchReader":
        if not hybrid:
            plan = self._lake.plan(GOLD, wanted.expression, as_of)
            reader = self._read(plan, statement, parameters)
        else:
            with self._cursor(GOLD) as cursor:
                plan = self._hybrid.attach(cursor, trade_sql.VIEW, wanted)
                reader = reader_of(cursor, cursor.sql(statement, params=parameters), GOLD)
        return _or_unknown(reader, lambda: self._refuse_unknown_symbol(wanted, plan, hybrid=hybrid))

    def _read(self, plan: Plan, statement: str, parameters: dict[str, Any]) -> "RecordBatchReader":
        with self._cursor(GOLD) as cursor:
            statement = data_files.within(cursor, trade_sql.VIEW, plan, statement)
            return reader_of(cursor, cursor.sql(statement, params=parameters), GOLD)

    @contextmanager
    def _cursor(self, what: str) -> "Iterator[DuckDBPyConnection]":
        """One that the reader made with it closes; where none is made, it is closed here."""
        with ExitStack() as held, told(what):
            cursor = self._duckdb.cursor()
            held.enter_context(cursor)
            cancellation.adopt(cursor)
            cursor.execute("SET TimeZone = 'UTC'")
            yield cursor
            held.pop_all()

    def _mixed(self, wanted: Wanted, mixture: bars.Mixture, statement: str) -> "RecordBatchReader":
        with self._cursor(f"{GOLD} and {BARS}") as cursor:
            data_files.attach(cursor, bars.MINUTES, mixture.bars)
            if mixture.newer is None:
                data_files.attach(cursor, trade_sql.VIEW, mixture.gold)
            else:
                self._hybrid.join(cursor, trade_sql.VIEW, mixture.gold, mixture.newer, wanted)
            return reader_of(cursor, cursor.sql(statement, params=mixture.parameters), GOLD)

    def _refuse_unknown_symbol(self, wanted: Wanted, plan: Plan, *, hybrid: bool) -> None:
        """An empty answer is an answer, unless the symbol was never traded at all."""
        if wanted.symbol is None or plan.snapshot_id is None:
            return
        ever = replace(wanted, exchange=None, start=None, end=None)
        found = sorted(set(self.symbols(plan.snapshot_id).column("symbol").to_pylist()))
        if found and wanted.symbol not in found and not (hybrid and self._hybrid.follows(plan, ever)):
            more = ", ..." if len(found) > _NAMED else ""
            raise BadQuery(
                f"no trade of {shown(wanted.symbol)} was ever stored; there are {', '.join(found[:_NAMED])}{more}"
            )


def _only_now(as_of: AsOf | None, *, hybrid: bool) -> None:
    if hybrid and as_of is not None:
        raise BadQuery("a hybrid answer is as of now; leave out as-of, or hybrid")


def _spill() -> str:
    """Where what does not fit into memory may lie for a while. DuckDB makes it when it needs it, and removes it."""
    return f"{tempfile.gettempdir()}/k2-query-{os.getpid()}"


def _share(memory: str, count: int) -> str:
    """One of so many equal parts, as DuckDB writes sizes."""
    amount = memory.rstrip("KMGTiB ")
    return f"{float(amount) / count:.3f}{memory[len(amount) :].strip()}"


def _fence(connection: "DuckDBPyConnection", plans: dict[str, Plan]) -> None:
    """Leaves a connection with nothing but the tables' own files, and no way to change that."""
    readable = [path for plan in plans.values() if data_files.local(plan) for path in data_files.paths(plan)]
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_paths = [{', '.join(map(data_files.literal, readable))}]")
    connection.execute("SET enable_external_access = false")
    for name, plan in plans.items():
        data_files.attach(connection, name, plan)
    connection.execute("SET lock_configuration = true")


def _or_unknown(reader: "RecordBatchReader", check: Any) -> "RecordBatchReader":
    """The same rows; if there are none, after `check` has had its say."""
    import pyarrow as pa

    batches = (batch for batch in reader if batch.num_rows)
    first = next(batches, None)
    if first is None:
        check()
        return pa.RecordBatchReader.from_batches(reader.schema, iter(()))

    def rows() -> "Iterator[RecordBatch]":
        yield first
        yield from batches

    return pa.RecordBatchReader.from_batches(reader.schema, rows())
