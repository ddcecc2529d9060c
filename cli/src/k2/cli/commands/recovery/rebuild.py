"""`k2 rebuild`: builds Silver again from Bronze, and Gold from Silver, of a platform that is stopped."""

import subprocess
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from k2.cli.commands import audit
from k2.cli.commands.options import Data, load_state
from k2.cli.embedded import state
from k2.cli.embedded.integrity import Unusable
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import refuse, say
from k2.cli.feed_files import read_feed
from k2.jobs.audit.since import parse_since


class Layer(StrEnum):
    """What is built again."""

    SILVER = "silver"  # and Gold after it
    GOLD = "gold"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rebuild)


def rebuild(
    layer: Annotated[Layer, typer.Argument(help="silver: Silver and then Gold; gold: Gold alone")],
    feed: Annotated[
        list[str], typer.Option(help="only the exchange of this feed; repeatable. Default: of all feeds")
    ] = [],  # noqa: B006
    since: Annotated[
        str, typer.Option("--from", help="only what arrived since: a UTC time, or an age such as 26h", metavar="TIME")
    ] = "",
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="instead, give up the tables of before that rebuilds have kept")
    ] = False,
    memory: Annotated[str, typer.Option(help="heap size of Spark", metavar="SIZE")] = "1g",
    data: Data = DEFAULT,
) -> None:
    """Build Silver and Gold again, each in one commit, and audit them. The platform must be stopped."""
    from k2.cli.commands.doctor import java_and_jars
    from k2.cli.embedded import offline

    layout = Layout.at(data)
    current = load_state(layout)
    if unknown := sorted(set(feed) - set(current.feeds)):
        refuse(f"--feed: {unknown[0]!r} is no feed of {layout.root}; choose from {', '.join(current.feeds)}")
    try:
        if since:
            parse_since(since, datetime.now(UTC))
    except ValueError as error:
        refuse(str(error).replace("--since", "--from"))
    files = [word for path in _files(layout, current, feed) for word in ("--feed", str(path))]
    words = [layer.value, *files, "--memory", memory]
    words += [*(["--from", since] if since else []), *(["--drop-old"] if drop_old else [])]
    java_and_jars()
    try:
        with offline.registry(layout) as port:
            arguments, environment = audit.command(layout, *words, module="k2.jobs.rebuild")
            environment["K2_REGISTRY_URL"] = f"http://127.0.0.1:{port}"
            code = subprocess.run(arguments, env=environment, check=False).returncode
            if code == 0 and not drop_old:
                say("auditing what was built")
                arguments, environment = audit.command(layout)
                code = subprocess.run(arguments, env=environment, check=False).returncode
    except (state.UnreadableState, Unusable) as error:
        refuse(str(error))
    raise typer.Exit(code)


def _files(layout: Layout, current: state.State, names: list[str]) -> list[Path]:
    """Return the files of all feeds of the exchanges of some feeds: they share the tables."""
    by_file = {name: layout.feeds / f"{name}.yaml" for name in current.feeds}
    exchanges = {name: read_feed(file).spec.exchange for name, file in by_file.items()}
    selected = {exchanges[name] for name in names or current.feeds}
    return [by_file[name] for name, exchange in exchanges.items() if exchange in selected]
