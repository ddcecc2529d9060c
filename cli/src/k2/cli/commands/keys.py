"""`k2 keys`: API keys of the HTTP API."""

from pathlib import Path
from typing import Annotated

import typer

from k2.cli.exits import refuse
from k2.common.validation_errors import InvalidSpec

keys = typer.Typer(help="Create keys for the HTTP API.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys, name="keys")


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="name of the key")],
    scope: Annotated[list[str], typer.Option(help="what the key allows: read, sql, stream, replay; repeatable")],
    file: Annotated[Path, typer.Option(help="key file; created if missing")] = Path("keys.yaml"),
    rate: Annotated[str | None, typer.Option(help="rate limit, such as 600/minute")] = None,
) -> None:
    """Create a key and print it once. The file stores only its hash."""
    from k2.query.api.keys import Scope, add

    scopes = [str(each) for each in Scope]
    if unknown := [each for each in scope if each not in scopes]:
        refuse(f"--scope: {unknown[0]!r} is not a scope; choose from {', '.join(scopes)}")
    try:
        typer.echo(add(file, name, [Scope(each) for each in scope], rate))
    except InvalidSpec as error:
        refuse(*(str(problem) for problem in error.problems))
