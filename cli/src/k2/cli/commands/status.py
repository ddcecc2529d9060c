"""`k2 status`: the feeds of a platform on this machine."""

import sys
from typing import Annotated

import msgspec
import typer

from k2.cli.commands.options import Data, load_state
from k2.cli.embedded import status as feed_status
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import refuse
from k2.cli.terminal import console, status_table
from k2.common.validation_errors import InvalidSpec


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    data: Data = DEFAULT,
    wide: Annotated[bool, typer.Option("--wide", help="show more columns")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print all fields as JSON")] = False,
) -> None:
    """Show the feeds: phase, rate, freshness, gaps."""
    layout = Layout.at(data)
    state = load_state(layout)
    try:
        rows = feed_status.collect(feed_status.feeds(layout, state), state)
    except (OSError, InvalidSpec) as error:
        refuse(f"{layout.feeds}: {error}; run k2 up again")
    if as_json:
        sys.stdout.write(msgspec.json.encode({"running": state.running, "ports": state.ports, "feeds": rows}).decode())
        sys.stdout.write("\n")
    else:
        console(sys.stdout).print(status_table(rows, wide=wide))
