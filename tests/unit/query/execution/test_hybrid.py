"""Gold and the Kafka tail of a channel as one view, each record once by the channel's identity."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.table import Table

from k2.cli.embedded.layout import Layout
from k2.query.execution.hybrid import HybridView
from k2.query.iceberg import catalog, tables
from k2.query.iceberg.scan_planner import ScanPlanner
from k2.query.kafka.records import TopicPartition, ValidatedRecord
from k2.query.kafka.tail import Tail
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.snapshots import EXCHANGE, FRONTIER, QUERY
from k2.schemas.values import from_micros
from tests.unit.query.books import AT, BOOKS, Book, gold_row, validated

PARTITION = ("market.crypto.books.binance", 0)
SECOND = 1_000_000


class Kafka:
    """A stand-in for the reader: the validated records of one partition."""

    def __init__(self, books: Sequence[Book]) -> None:
        self.records = [ValidatedRecord(PARTITION, offset, 0, validated(book)) for offset, book in enumerate(books)]
        self.labels: dict[str, str] = {}

    def partitions(self, exchanges: Mapping[str, str]) -> dict[TopicPartition, str]:
        self.labels = dict(exchanges)
        return {PARTITION: "BINANCE"}

    def end_offsets(self, partitions: Mapping[TopicPartition, Any]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, len(self.records))

    def beginning_offsets(self, partitions: Mapping[TopicPartition, Any]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def read(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int], _: Mapping[TopicPartition, str]
    ) -> Iterator[list[ValidatedRecord]]:
        yield self.records[starts[PARTITION] : ends[PARTITION]]


@pytest.fixture
def gold(layout: Layout) -> Iterator[Table]:
    layout.root.mkdir()
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        yield tables.ensure(opened, [BOOKS.gold])[0]


@pytest.fixture
def hybrid(layout: Layout, gold: Table) -> Iterator[Callable[[Sequence[Book]], HybridView]]:
    """Return a view of Gold and of these records in Kafka."""
    with closing(ScanPlanner(layout.platform())) as planner:

        def view(books: Sequence[Book]) -> HybridView:
            hybrid = HybridView(planner, layout.platform(), BOOKS)
            hybrid._tail = Tail(layout.platform(), BOOKS)
            hybrid._tail._kafka = Kafka(books)  # type: ignore[assignment]
            return hybrid

        yield view


def commit(gold: Table, books: Sequence[Book], consumed: int) -> None:
    """Append records to Gold, which has consumed this many from Kafka."""
    summary = {FRONTIER: json.dumps({PARTITION[0]: {"0": consumed}}), QUERY: "one", EXCHANGE: "BINANCE"}
    rows = pa.Table.from_pylist([gold_row(book) for book in books], schema=gold.schema().as_arrow())
    gold.append(rows, snapshot_properties=summary)


def read(view: HybridView, record_filter: RecordFilter) -> list[dict[str, Any]]:
    """Return the view's rows that match."""
    condition = record_filter.condition(*BOOKS.time_columns)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        view.attach(connection, "books", record_filter)
        statement = f"SELECT * FROM books WHERE {condition} ORDER BY connection NULLS FIRST, ordinal"
        rows: list[dict[str, Any]] = (
            connection.sql(statement, params=record_filter.parameters).to_arrow_table().to_pylist()
        )
    return rows


def identities(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [(row["connection"], row["ordinal"]) for row in rows]


def test_records_of_kafka_that_gold_holds_by_their_identity_are_not_repeated(gold: Table, hybrid: Any):
    first, second, third = Book(1), Book(2, asks=((3, 4),)), Book(1, "b", millis=None)
    # Gold holds the second under another time; the same ordinal of another connection is another record.
    commit(gold, [first, second._replace(millis=AT // 1000 - 1)], consumed=1)
    view = hybrid([first, second, third, third])
    rows = read(view, RecordFilter())
    assert identities(rows) == [("a", 1), ("a", 2), ("b", 1)]
    assert rows[1]["timestamp"] == from_micros(AT - 1000)
    assert rows[1]["asks"] == [{"price": Decimal("3E-8"), "size": 4}]
    assert (rows[2]["timestamp"], rows[2]["asks"], len(rows[2]["bids"])) == (None, None, 2)
    assert tuple(rows[0]) == BOOKS.column_names
    assert view._tail._kafka.labels == {PARTITION[0]: "BINANCE"}
    assert view.topics() == {PARTITION[0]: "BINANCE"}


def test_a_time_range_selects_by_the_first_time_that_is_not_null_on_both_sides(gold: Table, hybrid: Any):
    def book(ordinal: int, second: int, *, timed: bool) -> Book:
        arrival = AT + second * SECOND
        return Book(ordinal, millis=arrival // 1000 if timed else None, arrival=arrival if not timed else AT)

    stored = [book(1, 0, timed=True), book(2, 1, timed=False), book(3, 7200, timed=False)]
    for each in stored:  # a file each: one has no exchange times at all
        commit(gold, [each], consumed=len(stored))
    view = hybrid([*stored, book(4, 2, timed=True), book(5, 2, timed=False), book(6, 9, timed=False)])
    within = RecordFilter("BTCUSDT", None, from_micros(AT + SECOND), from_micros(AT + 3 * SECOND))
    assert [row["ordinal"] for row in read(view, within)] == [2, 4, 5]
    with duckdb.connect() as connection:
        plan, new_records = view.split(connection, within)
    assert len(plan.files) == 2  # the file two hours later is skipped
    assert new_records.column("ordinal").to_pylist() == [4, 5]


def test_a_null_in_an_identity_equals_a_null(gold: Table, hybrid: Any):
    row = validated(Book(1))._replace(connection=None)
    gold.append(pa.Table.from_pylist([gold_row(Book(1)) | {"connection": None}], schema=gold.schema().as_arrow()))
    view = hybrid([Book(1), Book(1), Book(1)])
    records = view._tail._kafka.records
    records[:2] = [record._replace(value=row) for record in records[:2]]
    assert identities(read(view, RecordFilter())) == [(None, 1), ("a", 1)]


def test_an_empty_gold_leaves_the_tail_alone(hybrid: Any):
    assert identities(read(hybrid([Book(1), Book(1), Book(2)]), RecordFilter())) == [("a", 1), ("a", 2)]


def test_the_first_copy_is_shown_and_copies_with_other_content_are_counted(layout: Layout, gold: Table):
    """The first copies of 2 and 3 are outside of the range: what follows them within it must not be shown either."""
    channel = replace(BOOKS, content=("depth",))

    def at(seconds: int) -> dict[str, Any]:
        return {"millis": (AT + seconds * SECOND) // 1000}

    commit(gold, [Book(1), Book(2, **at(-30))], consumed=0)
    books = [
        Book(1, depth=9),
        Book(2, **at(0)),
        Book(3, **at(-20)),
        Book(3, **at(0)),
        Book(4),
        Book(4, depth=9),
        Book(4),
    ]
    within = RecordFilter("BTCUSDT", None, from_micros(AT), from_micros(AT + SECOND))
    with closing(ScanPlanner(layout.platform())) as planner:
        view = HybridView(planner, layout.platform(), channel)
        view._tail = Tail(layout.platform(), channel)
        view._tail._kafka = Kafka(books)  # type: ignore[assignment]
        assert [(row["ordinal"], row["depth"]) for row in read(view, within)] == [(1, 2), (4, 2)]
        assert view.conflicts == 4
