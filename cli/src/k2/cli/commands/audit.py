"""`k2 audit`: runs the audit of k2.jobs on an embedded platform's folder."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from k2.cli.commands.options import Data
from k2.cli.embedded import plan, state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import FAILED, UNREACHABLE, Refused, refuse
from k2.jobs.audit.report import failure_json
from k2.jobs.audit.since import parse_since


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


def command(layout: Layout, *arguments: str, module: str = "k2.jobs.audit") -> tuple[list[str], dict[str, str]]:
    """Return the command line and environment of the audit process, or of another of the jobs' modules.

    Raises `UnreadableState`.
    """
    ports = state.load(layout.state).ports
    services = {"kafka_port": ports.get(plan.KAFKA, 9092), "registry_port": ports.get(plan.REGISTRY, 8081)}
    environment = {**os.environ, **plan.environment(layout.platform(**services)), "K2_LOG_LEVEL": "error"}
    return [sys.executable, "-m", module, *arguments], environment


def audit(
    data: Data = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="print the full report as JSON")] = False,
    full: Annotated[
        bool, typer.Option("--full/--incremental", help="judge everything, or only what is new or touched")
    ] = True,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="also recompute Silver and Gold and compare")] = False,
    since: Annotated[
        str, typer.Option("--since", help="check only newer data: a UTC time, or an age such as 26h", metavar="TIME")
    ] = "",
) -> None:
    """Prove that no trade is missing or duplicated. Exit 0 if so, 1 with the findings."""
    flags = [
        *(["--json"] if as_json else []),
        *([] if full else ["--incremental"]),
        *(["--rebuild"] if rebuild else []),
        *(["--since", since] if since else []),
    ]
    try:
        arguments, environment = _prepared(data, since, flags)
    except Refused as refused:
        if as_json:
            print(failure_json(refused.exit_code, refused.reason))
        raise
    raise typer.Exit(_run(arguments, environment, as_json=as_json))


def _prepared(data: Path, since: str, flags: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return command line and environment of the audit's process. Exits with 2 or 3 if it cannot run."""
    from k2.cli.commands.doctor import java_and_jars

    try:
        parse_since(since or "2026-01-01", datetime.now(UTC))
    except ValueError as error:
        refuse(str(error))
    layout = Layout.at(data)
    if not layout.has_tables:
        refuse(f"no tables in {layout.root}; start a platform with k2 up, or choose another --data", code=UNREACHABLE)
    try:
        prepared = command(layout, *flags)
    except state.UnreadableState as error:
        refuse(str(error))
    java_and_jars()
    return prepared


def _run(arguments: Sequence[str], environment: Mapping[str, str], *, as_json: bool) -> int:
    """Run the audit's process and return its exit code; print a document also if a signal ended it."""
    if not as_json:
        code = subprocess.run(arguments, env=environment, check=False).returncode
        return code if code >= 0 else FAILED
    done = subprocess.run(arguments, env=environment, check=False, stdout=subprocess.PIPE, text=True)
    code = done.returncode if done.returncode >= 0 else FAILED
    ended = f"signal {-done.returncode} ended the audit's process: is there enough memory?"
    print(done.stdout.strip() or failure_json(code, ended if done.returncode < 0 else "the audit's process failed"))
    return code
