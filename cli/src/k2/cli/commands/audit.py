"""`k2 audit`: the jobs' own audit, on an embedded platform's folder."""

import os
import subprocess
import sys
from datetime import datetime
from typing import Annotated

import typer

from k2.cli.commands.up import Data
from k2.cli.embedded import plan, state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import UNREACHABLE, refuse


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(audit)


def command(layout: Layout, *words: str) -> tuple[list[str], dict[str, str]]:
    """The audit's process: its command line, and its environment. Raises `UnreadableState`."""
    ports = state.load(layout.state).ports
    services = {"kafka_port": ports.get(plan.KAFKA, 9092), "registry_port": ports.get(plan.REGISTRY, 8081)}
    environment = {**os.environ, **plan.environment(layout.platform(**services)), "K2_LOG_LEVEL": "error"}
    return [sys.executable, "-m", "k2.jobs.audit", *words], environment


def audit(
    data: Data = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="the whole report")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="also build Silver and Gold anew and compare")] = False,
    since: Annotated[
        str, typer.Option("--since", help="leave out what is older: a time (UTC) or 26h", metavar="TIME")
    ] = "",
) -> None:
    """Prove that nothing is missing and nothing is there twice. Exit 0 if so, 1 with the findings."""
    from k2.cli.commands.doctor import java_and_jars

    try:
        datetime.fromisoformat(since or "2026-01-01")
    except ValueError:
        refuse(f"--since {since!r} is not a time; write 2026-03-01 or 2026-03-01T10:00:00Z")
    layout = Layout.at(data)
    if not layout.catalog.exists():
        refuse(f"there are no tables in {layout.root}; start with k2 up, or choose another --data", code=UNREACHABLE)
    flags = [
        *(["--json"] if as_json else []),
        *(["--rebuild"] if rebuild else []),
        *(["--since", since] if since else []),
    ]
    try:
        words, environment = command(layout, *flags)
    except state.UnreadableState as error:
        refuse(str(error))
    java_and_jars()
    raise typer.Exit(subprocess.run(words, env=environment, check=False).returncode)
