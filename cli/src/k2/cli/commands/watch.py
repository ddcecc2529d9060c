"""`k2 watch`: a live view of trades and feed health."""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from k2.cli.commands import query
from k2.cli.embedded import state, status
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import UNREACHABLE, refuse
from k2.cli.terminal import grid, save_svg, status_table
from k2.common.validation_errors import InvalidSpec
from k2.query.errors import BadQuery, Unavailable
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.values import format_decimal, from_micros, seconds, to_micros

if TYPE_CHECKING:
    from httpx2 import Client

    from k2.query.kafka.row_types import Row

_MAX_TRADES: Final = 200
_BACKLOG: Final = 50  # records of each partition to start with
_REFRESH_SECONDS: Final = 0.25
_HEALTH_SECONDS: Final = 2.0
_JOIN_TIMEOUT: Final = 1.0
_SIDES: Final = {"BUY": "green", "SELL": "red"}
_TITLES: Final = ("TIME", "EXCHANGE", "SYMBOL", "SIDE", "PRICE", "QUANTITY", "AGE")


class Source(Protocol):
    """A source of trades and feed health."""

    def trades(self) -> Iterator[dict[str, Any]]:
        """Yield live trades in the format of `/v1/stream`. Raises `Unavailable`, `BadQuery`."""

    def health(self) -> Table:
        """Return the health of the feeds. Raises `Unavailable`."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(
    data: Annotated[Path, typer.Option("--data", help="Folder of the platform.", file_okay=False)] = DEFAULT,
    url: Annotated[str, typer.Option(help="HTTP API to use instead of --data, such as http://127.0.0.1:8000.")] = "",
    key: Annotated[str, typer.Option(envvar="K2_KEY", help="API key for --url.")] = "",
    symbols: Annotated[str, typer.Option(help="Only these symbols, comma separated, such as BTCUSDT,ETHUSDT.")] = "",
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    duration: Annotated[str, typer.Option("--duration", help="Stop after this time, such as 90s.")] = "",
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Write the last screen to an SVG file.")
    ] = None,
) -> None:
    """Watch live trades and the health of the feeds until Ctrl-C."""
    try:
        filters = [RecordFilter.of(name.strip(), exchange, None, None) for name in symbols.split(",") if name.strip()]
        filters = filters or [RecordFilter.of(None, exchange, None, None)]
        until = time.monotonic() + (seconds(duration) if duration else 10.0**9)
        last = show(Remote(url, key, symbols, exchange) if url else Local(Layout.at(data), filters), until)
        if picture is not None:
            save_svg(picture, last, "k2 watch")
    except Unavailable as error:
        refuse(" ".join(str(error).split()), code=UNREACHABLE)
    except (BadQuery, InvalidSpec) as error:
        refuse(" ".join(str(error).split()))
    except ValueError as error:
        refuse(f"--duration: {error}")
    except KeyboardInterrupt:
        return


def show(source: Source, until: float, console: Console | None = None) -> Group:
    """Draw until a time of the monotonic clock, and return the last screen."""
    console = console or Console(file=sys.stdout)
    health = source.health()
    checked_at, last = time.monotonic(), Group(health)
    with closing(_Follower(source)) as follower, Live(console=console, auto_refresh=False, transient=False) as live:
        while (now := time.monotonic()) < until:
            if now - checked_at > _HEALTH_SECONDS:
                health, checked_at = source.health(), now
            follower.check()
            room = max(3, console.height - health.row_count - 6)
            last = Group(health, Text(), _table(list(islice(follower.newest, room))))
            live.update(last, refresh=True)
            time.sleep(min(_REFRESH_SECONDS, max(0.0, until - now)))
    return last


class Local:
    """The platform that runs in a folder."""

    def __init__(self, layout: Layout, filters: list[RecordFilter]) -> None:
        from k2.query.kafka.kafka_reader import RecordReader

        self._layout = layout
        self._filters = filters
        self._records = RecordReader(query.running(layout), TRADES)

    def trades(self) -> Iterator[dict[str, Any]]:
        """Yield the newest trades of Kafka, then live ones."""
        from k2.query.kafka import record_buffer, row_types

        feeds = status.feeds(self._layout, state.load(self._layout.state))
        places = self._records.partitions({feed.topic(TRADES): feed.exchange_spec.label for feed in feeds})
        ends, first = self._records.end_offsets(places), self._records.beginning_offsets(places)
        matchers, time_of = [record_buffer.matcher(TRADES, each) for each in self._filters], row_types.time_of(TRADES)
        with closing(self._records.reader(places)) as reader:
            reader.add({place: max(first[place], end - _BACKLOG) for place, end in ends.items()})
            while True:
                rows = [each.value for each in reader.poll(_REFRESH_SECONDS) if isinstance(each.value, tuple)]
                for row in sorted(rows, key=time_of):
                    if any(matches(row) for matches in matchers):
                        yield _as_json(row)
                yield {}  # lets the follower stop

    def health(self) -> Table:
        """Return the table of `k2 status`."""
        try:
            platform = state.load(self._layout.state)
            return status_table(status.collect(status.feeds(self._layout, platform), platform))
        except (OSError, InvalidSpec, state.UnreadableState) as error:
            raise Unavailable(f"{self._layout.root}: {error}") from error


class Remote:
    """A remote HTTP API."""

    def __init__(self, url: str, key: str, symbols: str, exchange: str | None) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._query = {"symbols": symbols, **({"exchange": exchange} if exchange else {})}

    def trades(self) -> Iterator[dict[str, Any]]:
        """Yield trades of the live stream."""
        from httpx2 import HTTPError, InvalidURL

        try:
            with self._client() as client, client.stream("GET", "/v1/stream", params=self._query) as response:
                if response.status_code != 200:
                    response.read()
                    raise _error_of(response.status_code, response.text)
                event = ""
                for line in response.iter_lines():
                    name, _, value = line.partition(": ")
                    event = value if name == "event" else event
                    if name == "data" and event == "trade":
                        yield json.loads(value)
                    else:
                        yield {}
        except (HTTPError, InvalidURL) as error:
            raise Unavailable(f"{self._url} did not respond: {error}") from error

    def health(self) -> Table:
        """Return one row per exchange, read from the tables."""
        from httpx2 import HTTPError, InvalidURL

        try:
            with self._client() as client:
                response = client.get("/v1/feeds")
        except (HTTPError, InvalidURL) as error:
            raise Unavailable(f"{self._url} did not respond: {error}") from error
        if response.status_code != 200:
            raise _error_of(response.status_code, response.text)
        table = grid("EXCHANGE", "SYMBOLS", "GOLD", "FRESHNESS", "GAPS", "DEAD LETTERS")
        for row in response.json()["data"]:
            gold, gaps = row["layers"].get("gold", {}), row["gaps"]
            at = gold.get("committed_at")
            fresh = f"{(datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds():.0f}s" if at else ""
            shown = f"{gaps['open']} open, {gaps['repaired']} repaired"
            table.add_row(
                row["exchange"], str(row["symbols"]), str(gold.get("rows", "")), fresh, shown, str(row["dead_letters"])
            )
        return table

    def _client(self) -> "Client":
        from httpx2 import Client, Timeout

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return Client(base_url=self._url, headers=headers, timeout=Timeout(30.0, connect=5.0))


class _Follower:
    """A thread that follows a source and keeps the newest trades, newest first."""

    def __init__(self, source: Source) -> None:
        self.newest: deque[dict[str, Any]] = deque(maxlen=_MAX_TRADES)
        self._source = source
        self._ended = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="k2-watch", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the error that ended the thread, if any."""
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Stop the thread. One that is blocked on a server is abandoned."""
        self._ended.set()
        self._thread.join(_JOIN_TIMEOUT)

    def _run(self) -> None:
        try:
            for trade in self._source.trades():
                if self._ended.is_set():
                    return
                if trade:
                    self.newest.appendleft(trade)
        except (Unavailable, BadQuery) as error:
            self._failed = error


def _table(trades: list[dict[str, Any]]) -> Table:
    table = grid(*_TITLES, right=("PRICE", "QUANTITY", "AGE"))
    now = to_micros(datetime.now(UTC))
    for trade in trades:
        at = datetime.fromisoformat(trade["timestamp"])
        age = (now - to_micros(at)) / 1e6
        cells = [at.strftime("%H:%M:%S.%f")[:-3], trade["exchange"], trade["symbol"]]
        side = Text(trade["side"], style=_SIDES.get(trade["side"], ""))
        table.add_row(*cells, side, trade["price"], trade["quantity"], f"{age:.1f}s")
    return table


def _as_json(row: "Row") -> dict[str, Any]:
    fields = dict(zip(TRADES.column_names, row, strict=True))
    return fields | {
        "timestamp": from_micros(fields["timestamp"]).isoformat(),
        "price": format_decimal(fields["price"]),
        "quantity": format_decimal(fields["quantity"]),
    }


def _error_of(code: int, text: str) -> Exception:
    """Return the exception for an error response, with the server's own message."""
    try:
        reason = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        reason = f"the server responded with status {code}"
    return Unavailable(reason) if code >= 500 else BadQuery(reason)
