"""`k2 trades`, `k2 quotes`, `k2 ohlcv`, `k2 snapshots`: queries of a platform's tables.

The platform need not run, but for hybrid queries.

The engine is imported when a query runs, so that `k2 --help` stays fast.
"""

import sys
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from k2.cli import output
from k2.cli.embedded import plan, state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import UNREACHABLE, refuse
from k2.cli.output import Format
from k2.common.platform import Platform
from k2.query import times
from k2.query.candles.filling import Fill
from k2.query.errors import BadQuery, BadStatement, Unavailable, WrongFormat
from k2.schemas.channels import QUOTES, TRADES, Channel
from k2.schemas.tables import GOLD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k2.query.engine import Engine
    from k2.query.execution.record_scan import RecordsQuery

TABLE_LIMIT: Final = 100  # default of tables, which people read; other formats have all rows
_MAX_LIMIT: Final = 10**18
_TIME = "RFC 3339 with an offset, such as 2026-01-31T14:00:00Z."
Data = Annotated[Path, typer.Option("--data", help="Folder of the platform.", file_okay=False)]
Form = Annotated[Format, typer.Option("--format", help="json is JSON lines; parquet and arrow are bytes.")]
Output = Annotated[Path | None, typer.Option("--output", help="Write to this file instead of standard output.")]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="TIME|SNAPSHOT|TAG", help="Read the tables as of this time, snapshot or tag."),
]
Exchange = Annotated[str | None, typer.Option(help="Only this exchange.")]
Hybrid = Annotated[
    bool,
    typer.Option("--hybrid", help="Include records that are in Kafka but not yet in Gold; needs a running platform."),
]
Start = Annotated[str | None, typer.Option(metavar="TIME", help=f"Inclusive start. {_TIME}")]
End = Annotated[str | None, typer.Option(metavar="TIME", help=f"Exclusive end. {_TIME}")]

Symbol = Annotated[str | None, typer.Option(help="Only this symbol, such as BTCUSDT.")]
WindowMinutes = Annotated[
    float | None, typer.Option(help="Instead of --start: this many minutes before --end, or before now.")
]
Limit = Annotated[
    int | None,
    typer.Option(help=f"Maximum number of rows. Default: {TABLE_LIMIT} for a table, else all.", min=1, max=_MAX_LIMIT),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (trades, quotes, ohlcv, snapshots):
        app.command()(command)


def trades(
    symbol: Symbol = None,
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    window_minutes: WindowMinutes = None,
    limit: Limit = None,
    as_of: AsOf = None,
    hybrid: Hybrid = False,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Print trades in time order. A limit selects the first ones from --start; without --start, the newest."""
    with open_engine(data, hybrid=hybrid) as engine:
        query: RecordsQuery = {"symbol": symbol, "exchange": exchange, "start": _time(start), "end": _time(end)}
        query |= {"window": _minutes(window_minutes), "limit": limit, "as_of": parse_as_of(as_of), "hybrid": hybrid}
        _print_records(engine, TRADES, query, form, to)


def quotes(
    symbol: Symbol = None,
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    window_minutes: WindowMinutes = None,
    limit: Limit = None,
    as_of: AsOf = None,
    hybrid: Hybrid = False,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Print best bids and asks in time order. A limit selects as that of k2 trades does."""
    with open_engine(data, hybrid=hybrid) as engine:
        query: RecordsQuery = {"symbol": symbol, "exchange": exchange, "start": _time(start), "end": _time(end)}
        query |= {"window": _minutes(window_minutes), "limit": limit, "as_of": parse_as_of(as_of), "hybrid": hybrid}
        _print_records(engine, QUOTES, query, form, to)


def ohlcv(
    symbol: Annotated[str, typer.Option(help="The symbol, such as BTCUSDT, or several, separated by commas.")],
    interval: Annotated[
        str | None, typer.Option(help="Length of a bar: 1s to 1d, 1w (from Monday) or 1M. Default: 1m.")
    ] = None,
    bars: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Instead of --interval, what ends a bar: tick:1000, volume:10, dollar:1000000, imbalance:50, run:50.",
        ),
    ] = None,
    tz: Annotated[
        str | None, typer.Option(metavar="ZONE", help="IANA time zone at whose midnight bars begin. Default: UTC.")
    ] = None,
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the newest intervals, or the newest bars of a rule.", min=1, max=_MAX_LIMIT)
    ] = None,
    fill: Annotated[
        Fill, typer.Option(help="Rows of intervals without trades: none, nulls, or the previous close.")
    ] = Fill.NONE,
    as_of: AsOf = None,
    hybrid: Hybrid = False,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Print open, high, low, close and volume per bar, exchange and symbol, and whether its trades are complete."""
    with open_engine(data, hybrid=hybrid) as engine:
        reader = engine.ohlcv_reader(
            symbol=symbol,
            interval=interval,
            bars=bars,
            tz=tz,
            exchange=exchange,
            start=_time(start),
            end=_time(end),
            limit=limit,
            fill=fill,
            as_of=parse_as_of(as_of),
            hybrid=hybrid,
        )
        output.write(reader, form, to)


def snapshots(
    table: Annotated[str, typer.Option(help="The table.")] = GOLD,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Print the snapshots of a table, oldest first: what --as-of accepts."""
    with open_engine(data) as engine:
        output.write(engine.snapshots(table).to_reader(), form, to)


def _print_records(engine: "Engine", channel: Channel, query: "RecordsQuery", form: Format, to: Path | None) -> None:
    truncated = query["limit"] is None and form is Format.TABLE
    if truncated:
        query["limit"] = TABLE_LIMIT
    if output.write(engine.records_reader(channel, **query), form, to) == TABLE_LIMIT and truncated:
        typer.echo(
            f"showing {TABLE_LIMIT} {channel.name}, there may be more; use --limit, or --format csv for all", err=True
        )


def running(layout: Layout) -> Platform:
    """Return the services of a folder's running platform, with their ports. Raises `Unavailable` if none runs."""
    try:
        platform = state.load(layout.state)
    except state.UnreadableState as error:
        raise BadQuery(str(error)) from error
    if not platform.running or plan.KAFKA not in platform.ports:
        raise Unavailable(
            f"the platform in {layout.root} is not running, and the newest records are in its Kafka; "
            "start it with k2 up"
        )
    return layout.platform(kafka_port=platform.ports[plan.KAFKA], registry_port=platform.ports[plan.REGISTRY])


@contextmanager
def open_engine(data: Path, *, hybrid: bool = False) -> "Iterator[Engine]":
    """Open the engine of a folder's platform. Errors end the command with one line and an exit code."""
    try:
        layout = Layout.at(data)
        platform = running(layout) if hybrid else layout.platform()
        from k2.query.engine import Engine

        with closing(Engine(platform)) as engine:
            yield engine
    except BadStatement as error:  # the line and its caret are for people: others get one line
        excerpt = error.position.excerpt() if error.position and sys.stderr.isatty() else ()
        refuse(" ".join(str(error).split()), *excerpt)
    except (BadQuery, WrongFormat) as error:
        refuse(" ".join(str(error).split()))
    except Unavailable as error:
        refuse(" ".join(str(error).split()), code=UNREACHABLE)


def _time(text: str | None) -> datetime | None:
    return times.parse(text) if text is not None else None


def parse_as_of(text: str | None) -> "times.AsOf | None":
    """Parse what --as-of gives. Raises `BadQuery`."""
    return times.parse_as_of(text) if text is not None else None


def _minutes(number: float | None) -> timedelta | None:
    try:
        return timedelta(minutes=number) if number is not None else None
    except (OverflowError, ValueError) as error:
        raise BadQuery("--window-minutes is out of range; use a number of minutes, such as 60") from error
