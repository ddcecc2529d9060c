"""`k2 watch`: a live view of trades or of an order book, and feed health."""

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
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from k2.cli.commands import query
from k2.cli.commands.markets.ladder import Ladder, states_and_messages
from k2.cli.embedded import state, status
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import UNREACHABLE, refuse
from k2.cli.terminal import grid, save_svg, status_table
from k2.common.validation_errors import InvalidSpec
from k2.query.errors import BadQuery, Unavailable, WrongFormat
from k2.query.live import record_json
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import BOOK, TRADES, Channel
from k2.schemas.values import seconds, to_micros

if TYPE_CHECKING:
    from httpx2 import Client


_MAX_TRADES: Final = 200
_BACKLOG: Final = 50  # records of each partition to start with
_REFRESH_SECONDS: Final = 0.25
_HEALTH_SECONDS: Final = 2.0
_JOIN_TIMEOUT: Final = 1.0
_SIDES: Final = {"BUY": "green", "SELL": "red"}
_TITLES: Final = ("TIME", "EXCHANGE", "SYMBOL", "SIDE", "PRICE", "QUANTITY", "AGE")


class Source(Protocol):
    """A source of the records of one channel, and of feed health."""

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield live records in the format of `/v1/stream`. Raises `Unavailable`, `BadQuery`."""

    def health(self) -> Table:
        """Return the health of the feeds. Raises `Unavailable`."""


class View(Protocol):
    """What is drawn of the records. `add` and `draw` are called by different threads."""

    def add(self, record: dict[str, Any]) -> None:
        """Take in the next record."""

    def draw(self, lines: int) -> RenderableType:
        """Return a picture of so many lines."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(
    data: Annotated[Path, typer.Option("--data", help="Folder of the platform.", file_okay=False)] = DEFAULT,
    url: Annotated[str, typer.Option(help="HTTP API to use instead of --data, such as http://127.0.0.1:8000.")] = "",
    key: Annotated[str, typer.Option(envvar="K2_KEY", help="API key for --url.")] = "",
    symbols: Annotated[str, typer.Option(help="Only these symbols, comma separated, such as BTCUSDT,ETHUSDT.")] = "",
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    book: Annotated[
        str, typer.Option(metavar="SYMBOL", help="Instead of trades: the order book of this symbol, as a ladder.")
    ] = "",
    duration: Annotated[str, typer.Option("--duration", help="Stop after this time, such as 90s.")] = "",
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Write the last screen to an SVG file.")
    ] = None,
) -> None:
    """Watch live trades, or an order book, and the health of the feeds until Ctrl-C."""
    try:
        until = time.monotonic() + (seconds(duration) if duration else 10.0**9)
        source = _source(Layout.at(data), url, key, symbols, exchange, book)
        last = show(source, until, view=Ladder(book) if book else None)
        if picture is not None:
            save_svg(picture, last, "k2 watch")
    except (BadQuery, InvalidSpec, WrongFormat) as error:
        refuse(" ".join(str(error).split()))
    except Unavailable as error:
        refuse(" ".join(str(error).split()), code=UNREACHABLE)
    except ValueError as error:
        refuse(f"--duration: {error}")
    except KeyboardInterrupt:
        return


def _source(layout: Layout, url: str, key: str, symbols: str, exchange: str | None, book: str) -> Source:
    """Return the source that the options ask for. Raises `BadQuery`."""
    if book and symbols:
        raise BadQuery("--book shows one symbol; leave out --symbols")
    names = [name.strip() for name in (book or symbols).split(",") if name.strip()]
    filters = [RecordFilter.of(name, exchange, None, None) for name in names]
    if url:
        return Remote(url, key, book or symbols, exchange, BOOK if book else TRADES)
    if book:
        return LocalBook(layout, book, exchange)
    return Local(layout, filters or [RecordFilter.of(None, exchange, None, None)])


def show(source: Source, until: float, console: Console | None = None, view: View | None = None) -> Group:
    """Draw until a time of the monotonic clock, and return the last screen. Without a `view`: of trades."""
    view = view or Tape()
    console = console or Console(file=sys.stdout)
    health = source.health()
    checked_at, last = time.monotonic(), Group(health)
    with (
        closing(_Follower(source, view)) as follower,
        Live(console=console, auto_refresh=False, transient=False) as live,
    ):
        while (now := time.monotonic()) < until:
            if now - checked_at > _HEALTH_SECONDS:
                health, checked_at = source.health(), now
            follower.check()
            room = max(3, console.height - health.row_count - 6)
            last = Group(health, Text(), view.draw(room))
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

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the newest trades of Kafka, then live ones."""
        from k2.query.kafka import record_buffer, row_types

        places = self._records.partitions(_topics(self._layout, TRADES))
        ends, first = self._records.end_offsets(places), self._records.beginning_offsets(places)
        matchers, time_of = [record_buffer.matcher(TRADES, each) for each in self._filters], row_types.time_of(TRADES)
        with closing(self._records.reader(places)) as reader:
            reader.add({place: max(first[place], end - _BACKLOG) for place, end in ends.items()})
            while True:
                rows = [each.value for each in reader.poll(_REFRESH_SECONDS) if isinstance(each.value, tuple)]
                for row in sorted(rows, key=time_of):
                    if any(matches(row) for matches in matchers):
                        yield record_json.fields(TRADES, row)
                yield {}  # lets the follower stop

    def health(self) -> Table:
        """Return the table of `k2 status`."""
        try:
            platform = state.load(self._layout.state)
            return status_table(status.collect(status.feeds(self._layout, platform), platform))
        except (OSError, InvalidSpec, state.UnreadableState) as error:
            raise Unavailable(f"{self._layout.root}: {error}") from error


class LocalBook(Local):
    """The order book of a symbol of the platform that runs in a folder."""

    def __init__(self, layout: Layout, symbol: str, exchange: str | None) -> None:
        super().__init__(layout, [])
        self._symbol, self._exchange = symbol, exchange

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the newest book of each connection, then its messages."""
        return states_and_messages(self._layout, self._symbol, self._exchange, _topics(self._layout, BOOK))


class Remote:
    """A remote HTTP API."""

    def __init__(self, url: str, key: str, symbols: str, exchange: str | None, channel: Channel = TRADES) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._event = record_json.EVENTS[channel]
        self._query = {"channel": channel.name, "symbols": symbols, **({"exchange": exchange} if exchange else {})}

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records of the live stream."""
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
                    if name == "data" and event == self._event:
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


class Tape:
    """The newest trades, newest first."""

    def __init__(self) -> None:
        self._newest: deque[dict[str, Any]] = deque(maxlen=_MAX_TRADES)

    def add(self, record: dict[str, Any]) -> None:
        """Put a trade first."""
        self._newest.appendleft(record)

    def draw(self, lines: int) -> RenderableType:
        """Return the table of the trades."""
        return _table(list(islice(self._newest, lines)))


class _Follower:
    """A thread that follows a source and passes its records to a view."""

    def __init__(self, source: Source, view: View) -> None:
        self._source, self._view = source, view
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
            for record in self._source.records():
                if self._ended.is_set():
                    return
                if record:
                    self._view.add(record)
        except (Unavailable, BadQuery) as error:
            self._failed = error
        except ValueError as error:
            self._failed = BadQuery(f"the source sent a record that cannot be read: {error}")


def _topics(layout: Layout, channel: Channel) -> dict[str, str]:
    """Return the topics of the folder's feeds, with the exchange label of each."""
    feeds = status.feeds(layout, state.load(layout.state))
    return {feed.topic(channel): feed.exchange_spec.label for feed in feeds}


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


def _error_of(code: int, text: str) -> Exception:
    """Return the exception for an error response, with the server's own message."""
    try:
        reason = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        reason = f"the server responded with status {code}"
    return Unavailable(reason) if code >= 500 else BadQuery(reason)
