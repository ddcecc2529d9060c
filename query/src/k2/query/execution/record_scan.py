"""List the records of a channel from Gold, and with a hybrid query from Kafka's tail too, as few files as possible."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypedDict

from k2.query import times
from k2.query.errors import BadQuery
from k2.query.execution import cancellation, chunked_scan, top_n
from k2.query.execution.duckdb_results import duckdb_errors, to_reader
from k2.query.execution.hybrid import HybridView
from k2.query.iceberg import data_files
from k2.query.kafka import record_buffer
from k2.query.sql.record_sql import RecordFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from datetime import datetime, timedelta

    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatch, RecordBatchReader
    from pyarrow import Table as ArrowTable

    from k2.common.platform import Platform
    from k2.query.iceberg.scan_planner import ScanPlan, ScanPlanner
    from k2.query.sql.record_list import Position, RecordList
    from k2.query.times import AsOf

    EmptyCheck = Callable[[RecordFilter, ScanPlan], None]

_TOP_N_LIMIT: Final = 100_000  # rows; a larger limit with a start is streamed in chunks


class RecordsQuery(TypedDict, total=False):
    """The arguments of `Engine.trades` and `Engine.quotes`."""

    symbol: str | None
    exchange: str | None
    start: datetime | None
    end: datetime | None
    window: timedelta | None
    limit: int | None
    beyond: Position | None
    as_of: AsOf | None
    hybrid: bool


class RecordScan:
    """The records of one channel of one platform. Thread-safe.

    Args:
        records: How they are listed.
        planner: The planner of the platform's tables.
        platform: Where Kafka and the schema registry are.
        database: The database whose cursors run the statements.
        prefetch: Reads the next chunk of a long result.
        live: Follow Kafka in a thread, as a server does for hybrid queries.

    """

    def __init__(
        self,
        records: RecordList,
        planner: ScanPlanner,
        platform: Platform,
        database: DuckDBPyConnection,
        prefetch: Executor,
        *,
        live: bool = False,
    ) -> None:
        self.hybrid = HybridView(planner, platform, records.channel, live=live)
        self.channel = records.channel
        self.noun = records.noun  # one record, for messages
        self._records = records
        self._gold = records.channel.gold.name
        self._planner = planner
        self._database = database
        self._prefetch = prefetch

    def close(self) -> None:
        """Close the Kafka connections."""
        self.hybrid.close()

    def reader(self, query: RecordsQuery, check_if_empty: EmptyCheck) -> RecordBatchReader:
        """Return the records in order of time: the first `limit` from `start` on, or without a start the newest.

        Of an empty result, `check_if_empty` is called with the filter and Gold's plan.
        """
        limit, beyond, hybrid = query.get("limit"), query.get("beyond"), query.get("hybrid", False)
        as_of = query.get("as_of")
        record_filter = self._records.narrow(self._filter(query), beyond)
        reject_as_of(as_of, hybrid=hybrid)
        use_top_n = limit is not None and (limit <= _TOP_N_LIMIT or not record_filter.start)
        if hybrid and not use_top_n:
            with open_cursor(self._database, self._gold) as cursor:
                plan = self.hybrid.attach(cursor, self._records.view, record_filter)
                statement = self._records.statement(record_filter, limit, beyond)
                parameters = self._records.parameters(record_filter, beyond)
                reader = to_reader(cursor, cursor.sql(statement, params=parameters), self._gold)
        else:
            plan, reader = self._scan(record_filter, limit, beyond, as_of, hybrid=hybrid, use_top_n=use_top_n)
        return checked_if_empty(reader, lambda: check_if_empty(record_filter, plan))

    def read(self, plan: ScanPlan, statement: str, parameters: dict[str, Any]) -> RecordBatchReader:
        """Run a statement that reads the rows of a plan under the name of the channel."""
        with open_cursor(self._database, self._gold) as cursor:
            statement = data_files.inline_view(cursor, self._records.view, plan, statement)
            return to_reader(cursor, cursor.sql(statement, params=parameters), self._gold)

    def is_stored(self, symbol: str, plan: ScanPlan) -> bool:
        """Return whether Gold has a record of a symbol at the snapshot of a plan."""
        any_time = RecordFilter(symbol)
        where = any_time.expression(*self._records.channel.time_columns)
        plan = self._planner.plan(self._gold, where, plan.snapshot_id)
        statement = f"SELECT 1 FROM {self._records.view} WHERE {any_time.condition()} LIMIT 1"  # noqa: S608 - a parameter
        return bool(self.read(plan, statement, any_time.parameters).read_all().num_rows)

    def _scan(
        self,
        record_filter: RecordFilter,
        limit: int | None,
        beyond: Position | None,
        as_of: AsOf | None,
        *,
        hybrid: bool,
        use_top_n: bool,
    ) -> tuple[ScanPlan, RecordBatchReader]:
        records = self._records
        parameters = records.parameters(record_filter, beyond)
        tail = None
        if hybrid:
            with open_cursor(self._database, self._gold) as cursor, cursor:
                plan, tail = self.hybrid.split(cursor, record_filter)
        else:
            plan = self._planner.plan(self._gold, record_filter.expression(*records.channel.time_columns), as_of)

        def scan(chunk: ScanPlan, row_limit: int | None) -> RecordBatchReader:
            return self.read(chunk, records.statement(record_filter, row_limit, beyond), parameters)

        def merge(former: ArrowTable, latter: ArrowTable) -> ArrowTable:
            with open_cursor(self._database, self._gold) as cursor:
                cursor.register("former", former).register("latter", latter)
                union = "SELECT * FROM former UNION ALL SELECT * FROM latter"
                cursor.execute(f"CREATE OR REPLACE TEMP VIEW {records.view} AS {union}")
                statement = records.statement(record_filter, limit, beyond, listed=True)
                return to_reader(cursor, cursor.sql(statement, params=parameters), self._gold).read_all()

        def listed(rows: ArrowTable) -> ArrowTable:
            with open_cursor(self._database, self._gold) as cursor:
                cursor.register(records.view, rows)
                statement = records.statement(record_filter, limit, beyond)
                return to_reader(cursor, cursor.sql(statement, params=parameters), self._gold).read_all()

        if use_top_n and limit is not None:
            newest = not record_filter.start
            rows = top_n.top_rows(plan, scan, merge, self._times, limit, newest=newest)
            return plan, (merge(rows, listed(tail)) if tail is not None and tail.num_rows else rows).to_reader()
        many = record_filter.symbol and limit is None
        most_rows = chunked_scan.SINGLE_SYMBOL_CHUNK_ROWS if many else chunked_scan.CHUNK_ROWS
        reader = chunked_scan.read_chunks(chunked_scan.split(plan, most_rows), scan, self._prefetch)
        return plan, chunked_scan.limit_rows(reader, limit) if limit else reader

    def _filter(self, query: RecordsQuery) -> RecordFilter:
        limit, window = query.get("limit"), query.get("window")
        start, end = query.get("start"), query.get("end")
        if limit is not None and limit < 1:
            raise BadQuery(f"limit {limit} is too small; give 1 or more")
        if window is not None:
            start, end = times.window_range(window, start, end, query.get("as_of"))
        return RecordFilter.of(query.get("symbol"), query.get("exchange"), start, end)

    def _times(self, rows: ArrowTable) -> Any:
        return record_buffer.times(self._records.channel, rows)


def reject_as_of(as_of: AsOf | None, *, hybrid: bool) -> None:
    """Raise `BadQuery` for a hybrid query of the past."""
    if hybrid and as_of is not None:
        raise BadQuery("a hybrid query is always as of now; leave out as-of or hybrid")


@contextmanager
def open_cursor(database: DuckDBPyConnection, subject: str) -> Iterator[DuckDBPyConnection]:
    """Open a cursor. The reader that is created with it closes it; on an error it is closed here."""
    with ExitStack() as resources, duckdb_errors(subject):
        cursor = database.cursor()
        resources.enter_context(cursor)
        cancellation.register(cursor)
        cursor.execute("SET TimeZone = 'UTC'")
        yield cursor
        resources.pop_all()


def checked_if_empty(reader: RecordBatchReader, check: Callable[[], None]) -> RecordBatchReader:
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
