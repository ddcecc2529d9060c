"""`k2 serve`: the HTTP API over a platform's folder."""

from pathlib import Path
from typing import Annotated, Final

import typer

from k2.cli.commands.options import Data
from k2.cli.embedded import plan, state
from k2.cli.embedded.layout import DEFAULT, Layout
from k2.cli.exits import BAD_INPUT, ignore_sigpipe, refuse, say
from k2.common import logs, tracing
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec

_PORT: Final = 8000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    data: Data = DEFAULT,
    host: Annotated[str | None, typer.Option(help="address to listen on; default: 127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(help=f"port to listen on; default: {_PORT}; 0: any free port", min=0, max=65535)
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option("--keys", help="file of API keys, as written by k2 keys create")
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="serve other machines without keys")
    ] = False,
) -> None:
    """Serve the tables of a folder over HTTP until Ctrl-C. Without keys, only this machine can connect."""
    from k2.query.api.server import run, server
    from k2.query.api.settings import ApiSettings

    options = {"host": host, "port": port, "keys": keys_file, "allow_anonymous": allow_anonymous or None}
    try:
        settings = ApiSettings.read(**{name: value for name, value in options.items() if value is not None})
        served = platform(Layout.at(data))
        logs.configure("console", served.log_level)
        tracing.configure("api")
        http_server = server(settings, served)
    except InvalidSpec as error:
        refuse(*(str(problem) for problem in error.problems))
    ignore_sigpipe()
    code = run(http_server, lambda url: say(f"serving {url}"))
    if code:
        say(f"cannot listen on {settings.host}:{settings.port}; choose another --port")
    raise typer.Exit(BAD_INPUT if code else 0)


def platform(layout: Layout) -> Platform:
    """Return the services of a folder's platform, with the ports of the running ones. Raises `InvalidSpec`."""
    try:
        ports = state.load(layout.state).ports
    except state.UnreadableState as error:
        refuse(str(error))
    listening = {"kafka_port": ports.get(plan.KAFKA), "registry_port": ports.get(plan.REGISTRY)}
    return layout.platform(**{name: port for name, port in listening.items() if port is not None})
