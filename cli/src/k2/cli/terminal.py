"""Tables on the terminal: consoles, feed status, and SVG screenshots."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console, RenderableType
from rich.table import Table

from k2.cli.embedded.status import ChannelStatus, FeedStatus

_UNBOUNDED_WIDTH: Final = 200
_SVG_WIDTH: Final = 150


def console(file: TextIO) -> Console:
    """Return a console for a file; where that is no terminal, wide enough that no row wraps."""
    return Console(file=file, width=None if file.isatty() else _UNBOUNDED_WIDTH)


def grid(*titles: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table without borders; the `right` columns are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True, justify="right" if title in right else "left")
    return table


def status_table(rows: Sequence[FeedStatus], *, wide: bool = False) -> Table:
    """Return the feeds as a table with the columns of `kubectl get feeds`; of several channels each has a row."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ["NAME", "EXCHANGE", "SYMBOLS", "PHASE", "RATE", "FRESHNESS", "GAPS", "AGE"]
    for name in [*names, *(["TOPOLOGY", "DEAD LETTERS", "MESSAGE"] if wide else [])]:
        table.add_column(name, no_wrap=name != "MESSAGE")
    for row in rows:
        cells = [row.name, row.exchange, str(row.symbols), row.phase, *_flow(row), _age(row.age)]
        table.add_row(*cells, *([row.topology, str(row.dead_letters), row.message] if wide else []))
        for channel in row.channels if len(row.channels) > 1 else ():
            connected = f"{channel.connected} of {channel.desired} connected"
            table.add_row(f"  {channel.name}", "", "", connected, *_flow(channel))
    return table


def _flow(row: FeedStatus | ChannelStatus) -> tuple[str, str, str]:
    """Return the cells of rate, freshness and gaps."""
    fresh = "" if row.freshness is None else f"{row.freshness:.1f}s"
    return f"{row.rate:.1f}/s", fresh, f"{row.open_gaps} open, {row.repaired_gaps} repaired"


def save_svg(path: Path, content: RenderableType, title: str) -> None:
    """Render content to an SVG file."""
    recorder = Console(file=io.StringIO(), record=True, width=_SVG_WIDTH, force_terminal=True)
    recorder.print(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    recorder.save_svg(str(path), title=title)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"
