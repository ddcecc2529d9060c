"""Convert between Arrow and books: stored rows to messages, and books to rows of a result."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from k2.query import arrow_schema
from k2.query.book.reconstruction import Book, BookMessage, Levels
from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from k2.schemas.tables.spec import PRICE
from k2.schemas.values import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from pyarrow import RecordBatch, Schema, Table

TIME: Final = "time"  # the column of a message's time, beside those of the channel
_PLAIN: Final = (
    *("part", "parts", "first_id", "last_id", "previous_id", "price_exponent", "quantity_exponent"),
    *("connection", "ordinal"),
)
_LEVELS: Final = f"array<struct<price:{PRICE},quantity:{PRICE}>>"
COLUMNS: Final = {
    "exchange": "string",
    "symbol": "string",
    "at": "timestamp",
    "time": "timestamp",
    "age_ms": "bigint",
    "snapshot_time": "timestamp",
    "verdict": "string",
    "last_id": "bigint",
    "connections": "array<string>",
    "bids": _LEVELS,
    "asks": _LEVELS,
}


def messages(rows: Table) -> Iterator[BookMessage]:
    """Yield the messages of rows of `gold_crypto_book` that have a column `time` too."""
    columns = {name: rows.column(name).to_pylist() for name in (TIME, "kind", "verdict", *_PLAIN)}
    sides = [_levels(rows, name) for name in ("bids", "asks")]
    for place, (bids, asks) in enumerate(zip(*sides, strict=True)):
        yield BookMessage(
            time=columns[TIME][place],
            kind=BookKind(columns["kind"][place]),
            verdict=Verdict(columns["verdict"][place]),
            bids=bids,
            asks=asks,
            **{name: columns[name][place] for name in _PLAIN},
        )


def ordinals(rows: Table, first: datetime, last: datetime) -> tuple[int, int] | None:
    """Return the lowest and highest ordinal of the rows that books from `first` to `last` stand on.

    These are the last whole snapshot at `first`, and what follows up to the first row that is later than `last`. None
    if all rows are needed: without any, and of several connections, since one may have what another has lost. The
    levels are not looked at.
    """
    import pyarrow.compute as pc

    if len(rows.column("connection").unique()) != 1:
        return None
    order = pc.sort_indices(rows.column("ordinal"))
    columns = (*(rows.column(name) for name in ("ordinal", "kind", "part", "parts")), rows.column(TIME).cast("int64"))
    numbers, kinds, parts, of_parts, times = (values.take(order).to_pylist() for values in columns)
    start, end, run = 0, len(times), 0  # run: parts of a snapshot that came one after the other
    first_micros, last_micros, is_before = to_micros(first), to_micros(last), True
    for place, time in enumerate(times):
        is_before = is_before and time <= first_micros
        if time > last_micros:
            end = place
            break
        if kinds[place] != BookKind.SNAPSHOT:
            run = 0
            continue
        run = run + 1 if parts[place] == run + 1 else int(parts[place] == 1)
        if run == of_parts[place]:
            start, run = (place + 1 - run if is_before else start), 0
    return (numbers[start], numbers[end - 1]) if end > start else None


def schema() -> Schema:
    """Return the schema of a result of books."""
    import pyarrow as pa

    return pa.schema([(name, arrow_schema.arrow_type(kind)) for name, kind in COLUMNS.items()])


def batch(exchange: str, symbol: str, books: Sequence[tuple[datetime, Book]]) -> RecordBatch:
    """Return books of a symbol as rows, each with the instant that it was asked for."""
    import pyarrow as pa

    values: dict[str, list[Any]] = {
        "exchange": [exchange] * len(books),
        "symbol": [symbol] * len(books),
        "at": [to_micros(at) for at, _ in books],
        "time": [to_micros(book.time) for _, book in books],
        "age_ms": [(to_micros(at) - to_micros(book.time)) // 1000 for at, book in books],
        "snapshot_time": [to_micros(book.snapshot_time) for _, book in books],
        "verdict": [book.verdict.value for _, book in books],
        "last_id": [book.last_id for _, book in books],
        "connections": [list(book.connections) for _, book in books],
        "bids": [_structs(book.bids) for _, book in books],
        "asks": [_structs(book.asks) for _, book in books],
    }
    result = schema()
    arrays = [arrow_schema.array(values[field.name], field.type) for field in result]
    return pa.RecordBatch.from_arrays(arrays, schema=result)


def _structs(levels: Levels) -> list[dict[str, int]]:
    return [{"price": price, "quantity": quantity} for price, quantity in levels]


def _levels(rows: Table, name: str) -> Iterator[Levels]:
    for chunk in rows.column(name).chunks:
        values = chunk.values
        prices, quantities = (values.field(part).to_pylist() for part in ("price", "quantity"))
        for first, last in pairwise(chunk.offsets.to_pylist()):
            yield tuple(zip(prices[first:last], quantities[first:last], strict=True))
