"""`k2 watch`: the newest trades as they come, and how the feeds are, for as long as somebody looks."""

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

from k2.cli.commands import query, up
from k2.cli.embedded import state, status
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import UNREACHABLE, refuse
from k2.common.validation_errors import InvalidSpec
from k2.query.errors import BadQuery, Unavailable
from k2.query.kafka.validation import ValidTrade
from k2.query.sql.trade_sql import TradeFilter
from k2.schemas.values import format_decimal, from_micros, seconds, to_micros

if TYPE_CHECKING:
    from httpx2 import Client

_KEPT: Final = 200  # trades
_BEFORE: Final = 50  # records of each partition from before it began
_EVERY: Final = 0.25  # seconds between two pictures
_HEALTH_EVERY: Final = 2.0
_PAUSE: Final = 1.0
_SIDES: Final = {"BUY": "green", "SELL": "red"}
_TITLES: Final = ("TIME", "EXCHANGE", "SYMBOL", "SIDE", "PRICE", "QUANTITY", "AGE")


class Source(Protocol):
    """Where trades and health come from."""

    def trades(self) -> Iterator[dict[str, Any]]:
        """Trades as they come, as `/v1/stream` tells them. Raises `Unavailable`, `BadQuery`."""

    def health(self) -> Table:
        """How the feeds are. Raises `Unavailable`."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(watch)


def watch(
    data: Annotated[Path, typer.Option("--data", help="Folder of the platform.", file_okay=False)] = DEFAULT,
    url: Annotated[str, typer.Option(help="Instead of --data: an HTTP API, such as http://127.0.0.1:8000.")] = "",
    key: Annotated[str, typer.Option(envvar="K2_KEY", help="The API key for --url.")] = "",
    symbols: Annotated[str, typer.Option(help="Only these, comma separated, such as BTCUSDT,ETHUSDT.")] = "",
    exchange: Annotated[str | None, typer.Option(help="Only this exchange, such as binance.")] = None,
    limit: Annotated[str, typer.Option("--duration", help="Stop after this long, such as 90s; else with Ctrl-C.")] = "",
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Write the last screen to a file.")] = None,
) -> None:
    """Watch trades as they come, and the health of the feeds."""
    try:
        wanted = [TradeFilter.of(name.strip(), exchange, None, None) for name in symbols.split(",") if name.strip()]
        wanted = wanted or [TradeFilter.of(None, exchange, None, None)]
        until = time.monotonic() + (seconds(limit) if limit else 10.0**9)
        last = show(Remote(url, key, symbols, exchange) if url else Local(Layout.at(data), wanted), until)
        if picture is not None:
            up.picture(picture, last, "k2 watch")
    except Unavailable as error:
        refuse(" ".join(str(error).split()), code=UNREACHABLE)
    except (BadQuery, InvalidSpec) as error:
        refuse(" ".join(str(error).split()))
    except ValueError as error:
        refuse(f"--duration: {error}")
    except KeyboardInterrupt:
        return


def show(source: Source, until: float, console: Console | None = None) -> Group:
    """Draws until a moment of the monotonic clock; gives what was there last."""
    console = console or Console(file=sys.stdout)
    health = source.health()
    looked, last = time.monotonic(), Group(health)
    with closing(_Following(source)) as found, Live(console=console, auto_refresh=False, transient=False) as live:
        while (now := time.monotonic()) < until:
            if now - looked > _HEALTH_EVERY:
                health, looked = source.health(), now
            found.check()
            room = max(3, console.height - health.row_count - 6)
            last = Group(health, Text(), _table(list(islice(found.newest, room))))
            live.update(last, refresh=True)
            time.sleep(min(_EVERY, max(0.0, until - now)))
    return last


class Local:
    """A platform that runs in a folder."""

    def __init__(self, layout: Layout, wanted: list[TradeFilter]) -> None:
        from k2.query.kafka.kafka_reader import KafkaReader

        self._layout = layout
        self._wanted = wanted
        self._records = KafkaReader(query.running(layout))

    def trades(self) -> Iterator[dict[str, Any]]:
        """The newest that Kafka has, and then what comes."""
        from k2.query.kafka import trade_buffer

        feeds = status.feeds(self._layout, state.load(self._layout.state))
        places = self._records.partitions({feed.topic: feed.exchange_spec.label for feed in feeds})
        ends, first = self._records.end_offsets(places), self._records.beginning_offsets(places)
        with closing(self._records.reader(places)) as reader:
            reader.add({place: max(first[place], end - _BEFORE) for place, end in ends.items()})
            while True:
                rows = [found.value for found in reader.poll(_EVERY) if isinstance(found.value, ValidTrade)]
                for row in sorted(rows, key=lambda row: row.timestamp):
                    if any(trade_buffer.matches(wanted, row) for wanted in self._wanted):
                        yield _told(row)
                yield {}  # so that whoever listens can stop

    def health(self) -> Table:
        """The table of `k2 status`."""
        try:
            found = state.load(self._layout.state)
            return up.table(status.collect(status.feeds(self._layout, found), found))
        except (OSError, InvalidSpec, state.UnreadableState) as error:
            raise Unavailable(f"{self._layout.root}: {error}") from error


class Remote:
    """An HTTP API anywhere."""

    def __init__(self, url: str, key: str, symbols: str, exchange: str | None) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._query = {"symbols": symbols, **({"exchange": exchange} if exchange else {})}

    def trades(self) -> Iterator[dict[str, Any]]:
        """The live stream."""
        from httpx2 import HTTPError, InvalidURL

        try:
            with self._client() as client, client.stream("GET", "/v1/stream", params=self._query) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise _refused(answer.status_code, answer.text)
                event = ""
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    event = value if name == "event" else event
                    if name == "data" and event == "trade":
                        yield json.loads(value)
                    else:
                        yield {}
        except (HTTPError, InvalidURL) as error:
            raise Unavailable(f"{self._url} does not answer: {error}") from error

    def health(self) -> Table:
        """A row an exchange, as the tables tell."""
        from httpx2 import HTTPError, InvalidURL

        try:
            with self._client() as client:
                answer = client.get("/v1/feeds")
        except (HTTPError, InvalidURL) as error:
            raise Unavailable(f"{self._url} does not answer: {error}") from error
        if answer.status_code != 200:
            raise _refused(answer.status_code, answer.text)
        found = _grid("EXCHANGE", "SYMBOLS", "GOLD", "FRESHNESS", "GAPS", "DEAD LETTERS")
        for row in answer.json()["data"]:
            gold, gaps = row["layers"].get("gold", {}), row["gaps"]
            at = gold.get("committed_at")
            fresh = f"{(datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds():.0f}s" if at else ""
            shown = f"{gaps['open']} open, {gaps['repaired']} repaired"
            found.add_row(
                row["exchange"], str(row["symbols"]), str(gold.get("rows", "")), fresh, shown, str(row["dead_letters"])
            )
        return found

    def _client(self) -> "Client":
        from httpx2 import Client, Timeout

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return Client(base_url=self._url, headers=headers, timeout=Timeout(30.0, connect=5.0))


class _Following:
    """A thread that follows a source, and the newest trades, newest first."""

    def __init__(self, source: Source) -> None:
        self.newest: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._source = source
        self._ended = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="k2-watch", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises what ended the thread."""
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Ends it; one that waits for a server is left to its end."""
        self._ended.set()
        self._thread.join(_PAUSE)

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
    found = _grid(*_TITLES)
    now = to_micros(datetime.now(UTC))
    for trade in trades:
        at = datetime.fromisoformat(trade["timestamp"])
        age = (now - to_micros(at)) / 1e6
        cells = [at.strftime("%H:%M:%S.%f")[:-3], trade["exchange"], trade["symbol"]]
        side = Text(trade["side"], style=_SIDES.get(trade["side"], ""))
        found.add_row(*cells, side, trade["price"], trade["quantity"], f"{age:.1f}s")
    return found


def _grid(*titles: str) -> Table:
    found = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        found.add_column(title, no_wrap=True, justify="right" if title in {"PRICE", "QUANTITY", "AGE"} else "left")
    return found


def _told(row: ValidTrade) -> dict[str, Any]:
    told: dict[str, Any] = row._asdict()
    return told | {
        "timestamp": from_micros(row.timestamp).isoformat(),
        "price": format_decimal(row.price),
        "quantity": format_decimal(row.quantity),
    }


def _refused(code: int, text: str) -> Exception:
    """What a server said, in its own words."""
    try:
        why = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        why = f"the server answered {code}"
    return Unavailable(why) if code >= 500 else BadQuery(why)
