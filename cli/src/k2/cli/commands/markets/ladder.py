"""The order book of a symbol as a ladder on the terminal: asks above bids, with spread, verdict and age."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from k2.cli.commands import query
from k2.cli.embedded.layout import Layout
from k2.cli.terminal import grid
from k2.query.book.reconstruction import Book, Levels
from k2.query.errors import CatalogEmpty
from k2.query.live.books import LiveBooks
from k2.schemas.channels import BOOK
from k2.schemas.values import fixed_decimal, format_decimal

if TYPE_CHECKING:
    from k2.query.book.reader import BookState

_POLL_SECONDS: Final = 0.25
_BAR: Final = 16  # characters of the largest depth
_MOST: Final = 40  # levels of each side
_STYLES: Final = {"verified": "green", "unverifiable": "yellow", "suspect": "bold red"}
_HEADER_LINES: Final = 5


class Ladder:
    """The ladders of a symbol, one for each exchange. Thread-safe."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._books = LiveBooks()
        self._lock = Lock()

    def add(self, record: dict[str, Any]) -> None:
        """Apply an event of the channel `book` of `/v1/stream`."""
        with self._lock:
            self._books.add(record)

    def draw(self, lines: int) -> RenderableType:
        """Return the picture, of so many lines."""
        with self._lock:
            books = self._books.books()
        if not books:
            return Text(f"waiting for a book of {self._symbol}", style="dim")
        depth = min(_MOST, max(1, (lines - _HEADER_LINES) // 2))
        row = Table.grid(padding=(0, 4))
        row.add_row(*(_ladder(*key, book, depth) for key, book in sorted(books.items())))
        return row


def states_and_messages(layout: Layout, symbol: str, exchange: str | None, topics: dict[str, str]) -> Iterator[Any]:
    """Yield the newest books of a platform that runs in a folder, then its messages, as `/v1/stream` sends them.

    An empty record after each poll lets the caller stop. `topics` have other names than K2's standard ones. Raises
    `Unavailable`, and `BadQuery` for an invalid symbol or exchange.
    """
    from k2.query.kafka import record_buffer
    from k2.query.kafka.kafka_reader import RecordReader
    from k2.query.live import opening, record_json
    from k2.query.sql.record_sql import RecordFilter

    matches = record_buffer.matcher(BOOK, RecordFilter.of(symbol, exchange, None, None))
    records = RecordReader(query.running(layout), BOOK)
    places = records.partitions(topics)
    ends = records.end_offsets(places)  # before the states are read, so that nothing is missing in between
    begun: dict[opening.Key, int] = {}
    for state in _states(layout, symbol, exchange):
        begun[state.exchange, state.symbol, state.connection] = state.ordinal
        yield from (record_json.fields(BOOK, row) for row in opening.snapshot_rows(state))
    with closing(records.reader(places)) as reader:
        reader.add(ends)
        while True:
            for row in (each.value for each in reader.poll(_POLL_SECONDS)):
                if isinstance(row, tuple) and matches(row) and opening.follows(begun, row):
                    yield record_json.fields(BOOK, row)
            yield {}


def _states(layout: Layout, symbol: str, exchange: str | None) -> "list[BookState]":
    from k2.query.engine import Engine

    with closing(Engine(query.running(layout))) as engine:
        try:
            return engine.book_states(symbol, exchange)
        except CatalogEmpty:  # what there is of the first books comes with the messages
            return []


def _ladder(exchange: str, symbol: str, book: Book, depth: int) -> RenderableType:
    places = _places(book.bids[:depth] + book.asks[:depth])
    bids, asks = _totals(book.bids[:depth]), _totals(book.asks[:depth])
    most = max((total for _, _, total in (*bids, *asks)), default=1)
    table = grid("PRICE", "QUANTITY", "TOTAL", "", right=("PRICE", "QUANTITY", "TOTAL"))
    for style, levels in (("red", reversed(asks)), ("green", bids)):
        for price, quantity, total in levels:
            bar = Text("█" * max(1, _BAR * total // most), style=style)
            table.add_row(Text(_fixed(price, places), style=style), *map(format_decimal, (quantity, total)), bar)
        if style == "red":
            table.add_row(Text(_spread(book, places), style="dim"))
    age = (datetime.now(UTC) - book.time).total_seconds()
    title = Text(f"{exchange} {symbol}  ", style="bold")
    title.append(book.verdict.value, style=_STYLES.get(book.verdict.value, ""))
    title.append(f"  {age:.1f}s old  {len(book.bids)} bids, {len(book.asks)} asks", style="dim")
    return Group(title, Text(), table)


def _totals(levels: Levels) -> list[tuple[int, int, int]]:
    """Return price, quantity and the quantity of all levels up to it."""
    total, rows = 0, []
    for price, quantity in levels:
        total += quantity
        rows.append((price, quantity, total))
    return rows


def _spread(book: Book, places: int) -> str:
    if not book.bids or not book.asks:
        return "one side is empty"
    bid, ask = book.bids[0][0], book.asks[0][0]
    sign, width = ("-" if ask < bid else ""), abs(ask - bid)
    return f"{sign}{_fixed(width, places)} ({20_000 * (ask - bid) / (ask + bid):.2f} bp)"


def _fixed(price: int, places: int) -> str:
    return fixed_decimal(price, places).rstrip(".")


def _places(levels: Levels) -> int:
    return max((len(format_decimal(price).partition(".")[2]) for price, _ in levels), default=0)
