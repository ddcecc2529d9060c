"""`k2 down`: stops a platform on this machine."""

import asyncio
import time
from typing import Final

import typer

from k2.cli.commands.options import Data, load_state
from k2.cli.embedded import plan
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import FAILED, refuse, say

_TIMEOUT: Final = 660.0  # seconds: the layers drain for up to 600


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(down)


def down(data: Data = DEFAULT) -> None:
    """Stop the platform of a folder in order, and wait until it has stopped."""
    from k2.cli.embedded.supervisor import reap

    layout = Layout.at(data)
    state = load_state(layout)
    process = state.supervisor.find() if state.supervisor else None
    if process is None:
        asyncio.run(reap(state, say))
        say("not running")
        return
    process.terminate()
    deadline = time.monotonic() + _TIMEOUT
    while state.running and time.monotonic() < deadline:
        time.sleep(0.2)
    if state.running:
        refuse(f"still stopping after {_TIMEOUT:.0f} s; see {layout.log(plan.JOBS)}", code=FAILED)
    say("stopped")
