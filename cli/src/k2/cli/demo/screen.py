"""The demo's screen: one row a feed, the last events below. Plain lines where nobody watches."""

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

from k2.cli.commands.up import console, picture
from k2.cli.embedded.status import FeedStatus

_EVENTS: Final = 8
_PLAIN_EVERY: Final = 10.0


class Screen:
    """A live table on a terminal; elsewhere a line for each event and, now and then, the table."""

    def __init__(self) -> None:
        self._console: Console = console(sys.stdout)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._events: deque[Text] = deque(maxlen=_EVENTS)
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

    def tell(self, words: str) -> None:
        """Something happened."""
        line = Text.assemble((f"{time.monotonic() - self._began:6.1f} s  ", "dim"), words)
        self._events.append(line)
        if self._live is None:
            self._console.print(line)
        else:
            self._draw()

    def update(self, rows: Sequence[FeedStatus]) -> None:
        """The feeds as they are now."""
        self._rows = rows
        if self._live is not None:
            self._draw()
        elif time.monotonic() - self._shown_at > _PLAIN_EVERY:
            self._shown_at = time.monotonic()
            self._console.print(table(rows))

    def picture(self, path: Path) -> None:
        """Writes the screen as it is now as an SVG."""
        picture(path, self._content(), "make demo")

    def _draw(self) -> None:
        assert self._live is not None
        self._live.update(self._content(), refresh=True)

    def _content(self) -> Group:
        return Group(table(self._rows), Text(), *self._events)


def table(rows: Sequence[FeedStatus]) -> Table:
    """Prices, rates, rows of each layer, gaps."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("feed", "phase", "prices", "trades/s", "fresh", "bronze", "silver", "gold", "gaps", "reconnects"):
        found.add_column(name, justify="left" if name in {"feed", "phase", "prices"} else "right", no_wrap=True)
    for row in rows:
        gaps = Text(f"{row.open_gaps} open, {row.repaired_gaps} repaired", style="red" if row.open_gaps else "")
        found.add_row(
            row.name,
            Text(row.phase, style="green" if row.phase == "Running" else "yellow"),
            "  ".join(f"{symbol} {price}" for symbol, price in sorted(row.prices.items())),
            f"{row.rate:.0f}",
            "" if row.freshness is None else f"{row.freshness:.1f} s",
            *(f"{row.rows.get(layer, 0):,}" for layer in ("bronze", "silver", "gold")),
            gaps,
            str(row.reconnects),
        )
    return found
