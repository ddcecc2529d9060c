"""`k2 logs`: the logs of a platform's processes."""

import sys
import time
from collections import deque
from typing import Annotated, Final

import typer

from k2.cli.commands.options import Data
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import UNREACHABLE, refuse

_TAIL: Final = 40


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(logs)


def logs(
    part: Annotated[
        str, typer.Argument(help="broker, jobs, api, ingest-FEED-SHARD-REPLICA, ...; without it, list the processes")
    ] = "",
    data: Data = DEFAULT,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1)] = _TAIL,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
) -> None:
    """Show the log of a process."""
    layout = Layout.at(data)
    parts = sorted(path.stem for path in layout.logs.glob("*.log"))
    if not parts:
        refuse(f"no logs in {layout.root}; start a platform with k2 up, or choose another --data", code=UNREACHABLE)
    if not part:
        sys.stdout.write("\n".join(parts) + "\n")
        return
    if part not in parts:
        refuse(f"no process {part!r}; available: {', '.join(parts)}")
    try:
        file = layout.log(part).open(encoding="utf-8", errors="replace")
    except OSError as error:
        refuse(f"{layout.log(part)}: {error.strerror}")
    with file:
        sys.stdout.writelines(deque(file, lines))
        while follow:
            sys.stdout.write(file.readline())
            sys.stdout.flush()
            time.sleep(0.05)
