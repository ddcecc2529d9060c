"""Read the books of a symbol at instants: the rows since the last snapshot, from the files of these hours alone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Final

from k2.common.validation_errors import format_value
from k2.query.book import rows as book_rows
from k2.query.book.reconstruction import Book, InexactLevel, books_at, newest_states
from k2.query.errors import BadQuery
from k2.query.execution.duckdb_results import with_utc
from k2.query.execution.hybrid import HybridView
from k2.query.execution.record_scan import open_cursor, reject_as_of
from k2.query.iceberg import data_files
from k2.query.sql.record_sql import RecordFilter
from k2.query.times import to_rfc3339, to_utc
from k2.schemas.channels import BOOK
from k2.schemas.exchanges.registry import EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatch, RecordBatchReader, Table

    from k2.common.platform import Platform
    from k2.query.iceberg.scan_planner import ScanPlanner
    from k2.query.times import AsOf
    from k2.schemas.channels import Channel

    Explain = Callable[[Channel, str, str, AsOf | None], BadQuery | None]  # of a symbol of which nothing is stored

MAX_BOOKS: Final = 100_000  # instants of one query
_VIEW: Final = BOOK.name
_GOLD: Final = BOOK.gold.name
_TIME: Final = f"coalesce({', '.join(BOOK.time_columns)})"
_SHARED_IDS: Final = frozenset(spec.label for spec in EXCHANGES.values() if spec.books_share_ids)
_LIGHT: Final = "connection, ordinal, kind, part, parts"  # all that `book_rows.ordinals` reads, beside the time
_WHOLE: Final = "kind = 'snapshot' AND part = parts"
# Messages of one connection are in the order of their ordinals; their times may differ from it by less than this,
# where a snapshot has the time of its arrival and the deltas after it that of the exchange.
_MARGIN: Final = timedelta(minutes=1)
_CHUNK: Final = timedelta(minutes=10)  # of a range that are rebuilt from one snapshot: what bounds the memory
_LOOKBACK: Final = (timedelta(hours=1), timedelta(days=1), None)  # None: from the beginning


@dataclass(frozen=True, slots=True)
class BookQuery:
    """Which books are read: of a symbol, of one exchange or of all, at ascending instants."""

    symbol: str
    exchange: str | None
    instants: Sequence[datetime]
    depth: int | None = None
    as_of: AsOf | None = None
    hybrid: bool = False

    @classmethod
    def at(cls, symbol: str, exchange: str | None, at: datetime | None, **options: Any) -> BookQuery:
        """Return the query of one instant; None: now. Raises `BadQuery`."""
        return cls._of(symbol, exchange, [to_utc(at, "at") if at else datetime.now(UTC)], **options)

    @classmethod
    def over(
        cls, symbol: str, exchange: str | None, start: datetime, end: datetime, interval: timedelta, **options: Any
    ) -> BookQuery:
        """Return the query of the instants `start`, `start` + `interval`, ... before `end`. Raises `BadQuery`."""
        checked = RecordFilter.of(symbol, exchange, start, end)
        assert checked.start is not None
        assert checked.end is not None
        count = -((checked.start - checked.end) // interval)
        if count > MAX_BOOKS:
            raise BadQuery(
                f"the range has {count} instants, more than {MAX_BOOKS}; shorten it, or take a longer interval"
            )
        return cls._of(symbol, exchange, [checked.start + number * interval for number in range(count)], **options)

    @classmethod
    def _of(cls, symbol: str, exchange: str | None, instants: list[datetime], **options: Any) -> BookQuery:
        checked = RecordFilter.of(symbol, exchange, None, None)
        query = cls(checked.symbol or "", checked.exchange, instants, **options)
        if query.depth is not None and query.depth < 1:
            raise BadQuery(f"depth {query.depth} is too small; give 1 or more")
        reject_as_of(query.as_of, hybrid=query.hybrid)
        return query


@dataclass(frozen=True, slots=True)
class BookState:
    """The newest book of one connection, after the message with this ordinal."""

    exchange: str
    symbol: str
    connection: str
    ordinal: int
    book: Book


class BookReader:
    """The books of one platform. Thread-safe. Close it after use."""

    def __init__(
        self, planner: ScanPlanner, platform: Platform, database: DuckDBPyConnection, explain: Explain
    ) -> None:
        self._planner = planner
        self._database = database
        self._explain = explain
        # Snapshots are too large to keep Kafka's newest messages in memory: a hybrid query reads them again.
        self._hybrid = HybridView(planner, platform, BOOK)

    def close(self) -> None:
        """Close the Kafka connections."""
        self._hybrid.close()

    def reader(self, query: BookQuery) -> RecordBatchReader:
        """Return the books, a row for each exchange and instant, in this order; none before the first snapshot.

        Raises `BadQuery` if there is none at all: with the time from which on there are books.
        """
        import pyarrow as pa

        batches = (batch for exchange in self._exchanges(query) for batch in self._of_exchange(query, exchange))
        first = next(batches, None)
        if first is None:
            self._raise_without_books(query)
        return pa.RecordBatchReader.from_batches(book_rows.schema(), chain([first] if first else [], batches))

    def states(self, symbol: str, exchange: str | None) -> list[BookState]:
        """Return the newest book of each connection, with what Kafka holds: where a live stream begins.

        Raises `BadQuery` for an invalid symbol or exchange, or levels that do not fit.
        """
        query = BookQuery.at(symbol, exchange, None, hybrid=True)
        (now,) = query.instants
        states = []
        for each in self._exchanges(query):
            with _shown(query.symbol, each):
                newest = newest_states(book_rows.messages(self._rows(query, each, now, now)))
            states += [
                BookState(each, query.symbol, connection, ordinal, book)
                for connection, (ordinal, book) in newest.items()
            ]
        return states

    def topics(self) -> Mapping[str, str]:
        """Return the Kafka topics that Gold has consumed, with the exchange label of each."""
        return self._hybrid.topics()

    def _exchanges(self, query: BookQuery) -> Sequence[str]:
        return [query.exchange] if query.exchange else [spec.label for spec in EXCHANGES.values()]

    def _of_exchange(self, query: BookQuery, exchange: str) -> Iterator[RecordBatch]:
        shared = exchange in _SHARED_IDS
        for _, group in groupby(query.instants, key=lambda instant: instant.timestamp() // _CHUNK.total_seconds()):
            instants = list(group)
            messages = book_rows.messages(self._rows(query, exchange, instants[0], instants[-1]))
            books: list[tuple[datetime, Book]] = []
            with _shown(query.symbol, exchange):
                for instant, book in zip(instants, books_at(messages, instants, shared_ids=shared), strict=True):
                    if book is not None:
                        books.append((instant, book.top(query.depth)))
            if books:
                yield book_rows.batch(exchange, query.symbol, books)

    def _rows(self, query: BookQuery, exchange: str, first: datetime, last: datetime) -> Table:
        """Return the rows from the last snapshot before the first instant up to the last instant."""
        record_filter = RecordFilter(query.symbol, exchange, None, last + _MARGIN)
        start = self._last_snapshot(query, replace(record_filter, end=first + timedelta(microseconds=1)))
        record_filter = replace(record_filter, start=(start or first) - _MARGIN)
        condition = record_filter.condition(*BOOK.time_columns)
        if not query.hybrid:  # which would read Kafka once more
            # Levels are nearly all bytes of a file: they are read of the rows that are needed only.
            light = f"SELECT {_LIGHT}, {_TIME} AS {book_rows.TIME} FROM {_VIEW} WHERE {condition}"  # noqa: S608 - values are parameters
            needed = book_rows.ordinals(self._select(query, record_filter, light), first, last)
            if needed is not None:
                condition += " AND ordinal BETWEEN {} AND {}".format(*needed)
        statement = f"SELECT *, {_TIME} AS {book_rows.TIME} FROM {_VIEW} WHERE {condition}"  # noqa: S608 - values are parameters
        return self._select(query, record_filter, statement)

    def _last_snapshot(self, query: BookQuery, record_filter: RecordFilter) -> datetime | None:
        """Return the earliest of the connections' last whole snapshots before the filter's end; None without any."""
        assert record_filter.end is not None
        for lookback in _LOOKBACK:
            start = record_filter.end - lookback if lookback else None
            within = replace(record_filter, start=start)
            last = f"SELECT max({_TIME}) AS time FROM {_VIEW} WHERE {_WHOLE} AND {within.condition(*BOOK.time_columns)}"  # noqa: S608 - values are parameters
            times: list[datetime] = (
                self._select(query, within, f"{last} GROUP BY connection").column("time").to_pylist()
            )
            if times:
                return min(times)
        return None

    def _raise_without_books(self, query: BookQuery) -> None:
        if not query.instants:
            return
        anything = RecordFilter(query.symbol, query.exchange)
        earliest = f"SELECT min({_TIME}) AS time FROM {_VIEW} WHERE {_WHOLE} AND {anything.condition()}"  # noqa: S608 - values are parameters
        (time,) = self._select(query, anything, earliest).column("time").to_pylist()
        of = f"{format_value(query.symbol)}{f' on {query.exchange}' if query.exchange else ''}"
        if time is None:
            raise self._explain(BOOK, "book", query.symbol, query.as_of) or BadQuery(
                f"no book of {of} is stored; use another symbol, or a feed with the channel {BOOK.name}"
            )
        at = to_rfc3339(query.instants[-1])
        raise BadQuery(f"there is no book of {of} at {at}: books begin at {to_rfc3339(time)}")

    def _select(self, query: BookQuery, record_filter: RecordFilter, statement: str) -> Table:
        with open_cursor(self._database, _GOLD) as cursor, cursor:
            if query.hybrid:
                self._hybrid.attach(cursor, _VIEW, record_filter)
            else:
                plan = self._planner.plan(_GOLD, record_filter.expression(*BOOK.time_columns), query.as_of)
                statement = data_files.inline_view(cursor, _VIEW, plan, statement)
            table = cursor.sql(statement, params=record_filter.parameters).to_arrow_table()
            return table.cast(with_utc(table.schema))


@contextmanager
def _shown(symbol: str, exchange: str) -> Iterator[None]:
    try:
        yield
    except InexactLevel as error:
        raise BadQuery(f"the book of {symbol} on {exchange} cannot be shown: {error}") from error
