"""`k2 trades`, `k2 ohlcv`, `k2 sql`, `k2 snapshots`: questions to a platform's tables, whether it runs or not.

The engine is imported when a question is asked, so that `k2 --help` need not wait for it.
"""

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
from k2.query.errors import BadQuery, Unavailable
from k2.schemas.tables import GOLD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k2.query.engine import Engine

SHOWN: Final = 100  # trades that fit a person; other formats are for programs and hold all
_MOST: Final = 10**18
_TIME = "RFC 3339 with an offset, such as 2026-01-31T14:00:00Z."
Data = Annotated[Path, typer.Option("--data", help="Folder of the platform.", file_okay=False)]
Form = Annotated[Format, typer.Option("--format", help="json is JSON lines; parquet and arrow are bytes.")]
Output = Annotated[Path | None, typer.Option("--output", help="Write to this file, not to standard output.")]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="TIME|SNAPSHOT|TAG", help="The tables as they were then.")]
Exchange = Annotated[str | None, typer.Option(help="Only this exchange, such as binance.")]
Hybrid = Annotated[
    bool, typer.Option("--hybrid", help="And what Kafka has and Gold has not yet; the platform must run.")
]
Start = Annotated[str | None, typer.Option(metavar="TIME", help=f"First moment that counts. {_TIME}")]
End = Annotated[str | None, typer.Option(metavar="TIME", help=f"First moment that does not count any more. {_TIME}")]


def register(app: typer.Typer) -> None:
    """Adds the query commands to the `k2` command."""
    for command in (trades, ohlcv, sql, snapshots):
        app.command()(command)


def trades(
    symbol: Annotated[str | None, typer.Option(help="Only this symbol, such as BTCUSDT.")] = None,
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    window_minutes: Annotated[
        float | None, typer.Option(help="Instead of --start: this long before --end, or before now.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help=f"At most so many. A table shows {SHOWN} unless told; other formats hold all.", min=1, max=_MOST
        ),
    ] = None,
    as_of: AsOf = None,
    hybrid: Hybrid = False,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Trades in order of time. A limit takes the first from --start on; without a start, the newest."""
    with _engine(data, hybrid=hybrid) as engine:
        shortened = limit is None and form is Format.TABLE
        reader = engine.trades_reader(
            symbol=symbol,
            exchange=exchange,
            start=_time(start),
            end=_time(end),
            window=_minutes(window_minutes),
            limit=SHOWN if shortened else limit,
            as_of=_as_of(as_of),
            hybrid=hybrid,
        )
        if output.write(reader, form, to) == SHOWN and shortened:
            typer.echo(f"{SHOWN} trades shown, there may be more; give --limit, or --format csv for all", err=True)


def ohlcv(
    symbol: Annotated[str, typer.Option(help="The symbol, such as BTCUSDT.")],
    interval: Annotated[str, typer.Option(help="Length of a bar: 1s to 1d.")] = "1m",
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    as_of: AsOf = None,
    hybrid: Hybrid = False,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Open, high, low, close and volume of each interval, an exchange a row; intervals without trades have none."""
    with _engine(data, hybrid=hybrid) as engine:
        reader = engine.ohlcv_reader(
            symbol=symbol,
            interval=interval,
            exchange=exchange,
            start=_time(start),
            end=_time(end),
            as_of=_as_of(as_of),
            hybrid=hybrid,
        )
        output.write(reader, form, to)


def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT, such as 'SELECT count(*) FROM gold_crypto_trades'.")],
    as_of: AsOf = None,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """What one SELECT over the tables gives. DuckDB's SQL; nothing can be changed, and no file can be reached."""
    with _engine(data) as engine:
        output.write(engine.sql_reader(statement, as_of=_as_of(as_of)), form, to)


def snapshots(
    table: Annotated[str, typer.Option(help="The table.")] = GOLD,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """A table's snapshots, oldest first: what --as-of can name."""
    with _engine(data) as engine:
        output.write(engine.snapshots(table).to_reader(), form, to)


def running(layout: Layout) -> Platform:
    """The services of a folder's platform, with the ports that they listen on. Raises `Unavailable` if nothing runs."""
    try:
        found = state.load(layout.state)
    except state.UnreadableState as error:
        raise BadQuery(str(error)) from error
    if not found.running or plan.KAFKA not in found.ports:
        raise Unavailable(f"nothing runs in {layout.root}, and the newest trades are in its Kafka; start it with k2 up")
    return layout.platform(kafka_port=found.ports[plan.KAFKA], registry_port=found.ports[plan.REGISTRY])


@contextmanager
def _engine(data: Path, *, hybrid: bool = False) -> "Iterator[Engine]":
    """The engine over a folder's platform. What goes wrong ends the command, with one line and the contract's code."""
    try:
        layout = Layout.at(data)
        platform = running(layout) if hybrid else layout.platform()
        from k2.query.engine import Engine

        with closing(Engine(platform)) as engine:
            yield engine
    except BadQuery as error:
        refuse(" ".join(str(error).split()))
    except Unavailable as error:
        refuse(" ".join(str(error).split()), code=UNREACHABLE)


def _time(text: str | None) -> datetime | None:
    return times.parse(text) if text is not None else None


def _as_of(text: str | None) -> "times.AsOf | None":
    return times.parse_as_of(text) if text is not None else None


def _minutes(number: float | None) -> timedelta | None:
    try:
        return timedelta(minutes=number) if number is not None else None
    except (OverflowError, ValueError) as error:
        raise BadQuery("--window-minutes is out of range; give minutes, such as 60") from error
