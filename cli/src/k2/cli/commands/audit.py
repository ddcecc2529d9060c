"""`k2 audit`: runs the audit of k2.jobs on an embedded platform's folder."""

import os
import subprocess
import sys
from datetime import datetime
from typing import Annotated

import typer

from k2.cli.commands.options import Data
from k2.cli.embedded import plan, state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import UNREACHABLE, refuse


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


def command(layout: Layout, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line and environment of the audit process. Raises `UnreadableState`."""
    ports = state.load(layout.state).ports
    services = {"kafka_port": ports.get(plan.KAFKA, 9092), "registry_port": ports.get(plan.REGISTRY, 8081)}
    environment = {**os.environ, **plan.environment(layout.platform(**services)), "K2_LOG_LEVEL": "error"}
    return [sys.executable, "-m", "k2.jobs.audit", *arguments], environment


def audit(
    data: Data = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="print the full report as JSON")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="also recompute Silver and Gold and compare")] = False,
    since: Annotated[
        str, typer.Option("--since", help="check only newer data: a UTC time, or an age such as 26h", metavar="TIME")
    ] = "",
) -> None:
    """Prove that no trade is missing or duplicated. Exit 0 if so, 1 with the findings."""
    from k2.cli.commands.doctor import java_and_jars

    try:
        datetime.fromisoformat(since or "2026-01-01")
    except ValueError:
        refuse(f"--since {since!r} is not a time; write 2026-03-01 or 2026-03-01T10:00:00Z")
    layout = Layout.at(data)
    if not layout.catalog.exists():
        refuse(f"no tables in {layout.root}; start a platform with k2 up, or choose another --data", code=UNREACHABLE)
    flags = [
        *(["--json"] if as_json else []),
        *(["--rebuild"] if rebuild else []),
        *(["--since", since] if since else []),
    ]
    try:
        arguments, environment = command(layout, *flags)
    except state.UnreadableState as error:
        refuse(str(error))
    java_and_jars()
    raise typer.Exit(subprocess.run(arguments, env=environment, check=False).returncode)
