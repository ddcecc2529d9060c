"""Live screen of the demo: one row per feed, and the last events; plain lines without a terminal."""

import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from k2.cli.embedded.status import FeedStatus
from k2.cli.terminal import console, grid, save_svg

_MAX_EVENTS: Final = 8
_PLAIN_INTERVAL: Final = 10.0


class Screen:
    """A live table on a terminal; elsewhere a line per event and, periodically, the table."""

    def __init__(self) -> None:
        self._console: Console = console(sys.stdout)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._events: deque[Text] = deque(maxlen=_MAX_EVENTS)
        self._began = time.monotonic()
        self._shown_at = self._began
        self._rows: Sequence[FeedStatus] = ()

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def log(self, event: str) -> None:
        """Show an event."""
        line = Text.assemble((f"{time.monotonic() - self._began:6.1f} s  ", "dim"), event)
        self._events.append(line)
        if self._live is None:
            self._console.print(line)
        else:
            self._draw()

    def update(self, rows: Sequence[FeedStatus]) -> None:
        """Show the current status of the feeds."""
        self._rows = rows
        if self._live is not None:
            self._draw()
        elif time.monotonic() - self._shown_at > _PLAIN_INTERVAL:
            self._shown_at = time.monotonic()
            self._console.print(feed_table(rows))

    def save_svg(self, path: Path) -> None:
        """Write the current screen to an SVG file."""
        save_svg(path, self._content(), "make demo")

    def _draw(self) -> None:
        assert self._live is not None
        self._live.update(self._content(), refresh=True)

    def _content(self) -> Group:
        return Group(feed_table(self._rows), Text(), *self._events)


def feed_table(rows: Sequence[FeedStatus]) -> Table:
    """Return prices, rates, rows per layer, and gaps as a table."""
    names = ("feed", "phase", "prices", "trades/s", "fresh", "bronze", "silver", "gold", "gaps", "reconnects")
    table = grid(*names, right=names[3:])
    for row in rows:
        gaps = Text(f"{row.open_gaps} open, {row.repaired_gaps} repaired", style="red" if row.open_gaps else "")
        table.add_row(
            row.name,
            Text(row.phase, style="green" if row.phase == "Running" else "yellow"),
            "  ".join(f"{symbol} {price}" for symbol, price in sorted(row.prices.items())),
            f"{row.rate:.0f}",
            "" if row.freshness is None else f"{row.freshness:.1f} s",
            *(f"{row.rows.get(layer, 0):,}" for layer in ("bronze", "silver", "gold")),
            gaps,
            str(row.reconnects),
        )
    return table
