"""Options and checks that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from k2.cli.embedded import state
from k2.cli.embedded.layout import Layout
from k2.cli.exits import BAD_INPUT, UNREACHABLE, refuse

Data = Annotated[Path, typer.Option("--data", help="folder of the platform", file_okay=False)]


def load_state(layout: Layout) -> state.State:
    """Return the state of a folder's platform. Exits with 3 if there is none, with 2 if it is unreadable."""
    if not layout.state.exists():
        refuse(f"no platform in {layout.root}; start one with k2 up, or choose another --data", code=UNREACHABLE)
    try:
        return state.load(layout.state)
    except state.UnreadableState as error:
        refuse(str(error), code=BAD_INPUT)
