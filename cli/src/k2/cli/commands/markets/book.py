"""`k2 book`: the order book of a symbol at an instant, or at regular instants of a range."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from k2.cli import output
from k2.cli.commands.query import AsOf, Data, End, Exchange, Form, Hybrid, Output, Start, open_engine, parse_as_of
from k2.cli.embedded.layout import DEFAULT
from k2.cli.output import Format
from k2.query import times
from k2.query.candles.intervals import parse_length
from k2.query.errors import BadQuery

if TYPE_CHECKING:
    from pyarrow import RecordBatchReader

TABLE_DEPTH: Final = 10  # levels of each side of tables, which people read; other formats have all


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(book)


def book(
    symbol: Annotated[str, typer.Argument(help="The symbol, such as BTCUSDT.")],
    exchange: Exchange = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="The instant; default: now.")] = None,
    start: Start = None,
    end: End = None,
    interval: Annotated[
        str | None, typer.Option(help="With --start and --end: a book each 1s, 1m, ...; default: 1m.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help=f"Levels of each side. Default: {TABLE_DEPTH} for a table, else all.", min=1)
    ] = None,
    as_of: AsOf = None,
    hybrid: Hybrid = False,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Print the order book at an instant, or at regular instants, with its verdict. A table has a row a level."""
    with open_engine(data, hybrid=hybrid) as engine:
        from k2.query.book.reader import BookQuery

        is_table = form is Format.TABLE
        revision = parse_as_of(as_of)
        options = {"depth": TABLE_DEPTH if depth is None and is_table else depth, "as_of": revision, "hybrid": hybrid}
        if start is None and end is None and interval is None:
            query = BookQuery.at(symbol, exchange, times.parse(at) if at is not None else None, **options)
        elif start is None or end is None or at is not None:
            raise BadQuery("give --at for one book, or --start and --end for books at an interval")
        else:
            length = parse_length(interval or "1m")
            query = BookQuery.over(symbol, exchange, times.parse(start), times.parse(end), length, **options)
        reader = engine.books_reader(query)
        output.write(_levels(reader) if is_table else reader, form, to)


def _levels(books: "RecordBatchReader") -> "RecordBatchReader":
    """Return a row for each level: those of both sides with the same number beside each other."""
    import pyarrow as pa

    rows = []
    for book in (row for batch in books for row in batch.to_pylist()):
        head = {name: book[name] for name in ("exchange", "at", "age_ms", "verdict")}
        for number in range(max(len(book["bids"]), len(book["asks"]))):
            bid, ask = ((book[side][number : number + 1] or [{}])[0] for side in ("bids", "asks"))
            sides = {"bid_quantity": bid.get("quantity"), "bid": bid.get("price")}
            rows.append(head | sides | {"ask": ask.get("price"), "ask_quantity": ask.get("quantity")})
    price = books.schema.field("bids").type.value_type.field("price").type
    types = {name: books.schema.field(name).type for name in ("exchange", "at", "age_ms", "verdict")}
    types |= dict.fromkeys(("bid_quantity", "bid", "ask", "ask_quantity"), price)
    return pa.Table.from_pylist(rows, pa.schema(types.items())).to_reader()
