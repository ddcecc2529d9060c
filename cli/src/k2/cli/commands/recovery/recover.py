"""`k2 recover`: continues where Kafka has lost what the layers would read next."""

import subprocess

import typer

from k2.cli.commands import audit
from k2.cli.commands.options import Data
from k2.cli.embedded import state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import UNREACHABLE, refuse


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(recover)


def recover(data: Data = DEFAULT) -> None:
    """Continue where Kafka has lost what Bronze would read next. The platform must run."""
    from k2.cli.commands.doctor import java_and_jars

    layout = Layout.at(data)
    try:
        current = state.load(layout.state)
        if not current.running:
            refuse(f"no platform runs in {layout.root}, whose Kafka is needed; start it with k2 up", code=UNREACHABLE)
        feeds = [word for name in current.feeds for word in ("--feed", str(layout.feeds / f"{name}.yaml"))]
        arguments, environment = audit.command(layout, *feeds, "--memory", "512m", module="k2.jobs.recover")
    except state.UnreadableState as error:
        refuse(str(error))
    java_and_jars()
    raise typer.Exit(subprocess.run(arguments, env=environment, check=False).returncode)
