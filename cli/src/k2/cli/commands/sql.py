"""`k2 sql`: one statement, those of a file or a pipe, or a shell."""

import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from k2.cli import output
from k2.cli.commands.query import AsOf, Data, Form, Output, open_engine, parse_as_of
from k2.cli.embedded.layout import DEFAULT
from k2.cli.output import Format
from k2.query.errors import BadQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k2.cli.shell.session import Session
    from k2.query.engine import Engine
    from k2.query.times import AsOf as AsOfValue

_PIPE: Final = "stdin"
_ONE_RESULT: Final = (Format.PARQUET, Format.ARROW)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sql)


def sql(
    statement: Annotated[
        str | None,
        typer.Argument(help="One statement, such as 'SELECT count(*) FROM gold_crypto_trades'. Without: a shell."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Run the statements of this file, up to the first that fails."),
    ] = None,
    as_of: AsOf = None,
    form: Form = Format.TABLE,
    to: Output = None,
    data: Data = DEFAULT,
) -> None:
    """Run statements in DuckDB's SQL that only read the tables, in a process that can do nothing else.

    Without a statement: those of standard input, or on a terminal a shell.
    """
    with open_engine(data) as engine:
        moment = parse_as_of(as_of)
        if statement is not None and file is not None:
            raise BadQuery("give a statement or --file, not both")
        if statement is not None:
            output.write(engine.sql_reader(statement, as_of=moment), form, to)
        elif file is not None:
            _run_script(engine, _read(file), str(file), moment, form, to)
        elif sys.stdin.isatty() and sys.stdout.isatty():
            _run_shell(engine, moment, form, data)
        else:
            _run_script(engine, sys.stdin.read(), _PIPE, moment, form, to)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadQuery(f"{file} cannot be read: {reason}; choose another --file") from error


def _run_script(
    engine: "Engine", text: str, name: str, as_of: "AsOfValue | None", form: Format, to: Path | None
) -> None:
    from k2.cli.shell import script
    from k2.cli.shell.session import Quit
    from k2.cli.shell.splitter import split

    if form in _ONE_RESULT and len(list(split(text))) > 1:
        raise BadQuery(f"{form} has one result, and {name} has several statements; keep one, or use {Format.CSV}")
    session = _session(engine, as_of, form)
    with output.opened(form, to) as target:
        first = True

        @contextmanager
        def sink() -> "Iterator[IO[bytes]]":
            nonlocal first
            if not first and session.form is Format.TABLE:
                target.write(b"\n")
            first = False
            yield target

        session.sink = sink
        with suppress(Quit):
            script.run(text, name, session.execute)


def _run_shell(engine: "Engine", as_of: "AsOfValue | None", form: Format, data: Path) -> None:
    from k2.cli.shell import interactive

    if form in _ONE_RESULT:
        raise BadQuery(f"{form} is binary; give a statement and --output FILE")
    session = _session(engine, as_of, form)
    session.counts = True
    welcome = f"{len(engine.names())} tables in {data}; \\d lists them, \\? helps, \\q leaves"
    interactive.run(session, engine.relations, welcome)


def _session(engine: "Engine", as_of: "AsOfValue | None", form: Format) -> "Session":
    from k2.cli.shell.session import Session

    return Session(engine, lambda: output.opened(form, None), _say, form, as_of)


def _say(line: str) -> None:
    sys.stdout.flush()
    typer.echo(line)
