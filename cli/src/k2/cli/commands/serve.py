"""`k2 serve` and `k2 keys`: the HTTP API over a platform's folder, and who may ask it."""

from pathlib import Path
from typing import Annotated, Final

import typer

from k2.cli.embedded import plan, state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import BAD_INPUT, outlive_pipes, refuse, say
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec

_PORT: Final = 8000
Data = Annotated[Path, typer.Option("--data", help="the platform's folder", file_okay=False)]

keys = typer.Typer(help="Make keys for the HTTP API.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(serve)
    app.add_typer(keys, name="keys")


def serve(
    data: Data = DEFAULT,
    host: Annotated[str | None, typer.Option(help="the address to listen on; without it, 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help=f"without it, {_PORT}; 0: any free port", min=0, max=65535)] = None,
    keys_file: Annotated[Path | None, typer.Option("--keys", help="a file of keys, as k2 keys writes it")] = None,
    everybody: Annotated[bool, typer.Option("--open", help="serve others than this machine without keys")] = False,
) -> None:
    """Serve the tables of a folder over HTTP until ctrl-c. Without keys, only this machine is served."""
    from k2.query.api.server import run, server
    from k2.query.api.settings import ApiSettings

    given = {"host": host, "port": port, "keys": keys_file, "open": everybody or None}
    try:
        settings = ApiSettings.read(**{name: value for name, value in given.items() if value is not None})
        serving = server(settings, platform(Layout.at(data)))
    except InvalidSpec as error:
        refuse(*(str(problem) for problem in error.problems))
    outlive_pipes()
    code = run(serving, lambda url: say(f"serving {url}"))
    if code:
        say(f"{settings.host}:{settings.port} cannot be listened on; choose another --port")
    raise typer.Exit(BAD_INPUT if code else 0)


@keys.command("new")
def new(
    name: Annotated[str, typer.Argument(help="whose key it is")],
    scope: Annotated[list[str], typer.Option(help="what it allows: read, sql, stream, replay")],
    file: Annotated[Path, typer.Option(help="the file of keys; made if it is missing")] = Path("keys.yaml"),
    rate: Annotated[str | None, typer.Option(help="requests in a time, such as 600/minute")] = None,
) -> None:
    """Make a key and print it, once. The file holds only its hash."""
    from k2.query.api.keys import Scope, add

    known = [str(one) for one in Scope]
    if unknown := [one for one in scope if one not in known]:
        refuse(f"--scope: {unknown[0]!r} is no scope; there are {', '.join(known)}")
    try:
        typer.echo(add(file, name, [Scope(one) for one in scope], rate))
    except InvalidSpec as error:
        refuse(*(str(problem) for problem in error.problems))


def platform(layout: Layout) -> Platform:
    """The services of a folder's platform, at the ports where they listen if it runs. Raises `InvalidSpec`."""
    try:
        ports = state.load(layout.state).ports
    except state.UnreadableState as error:
        refuse(str(error))
    given = {"kafka_port": ports.get(plan.KAFKA), "registry_port": ports.get(plan.REGISTRY)}
    return layout.platform(**{name: port for name, port in given.items() if port is not None})
