"""The `k2` command: registers every command; heavy dependencies are imported only by the command that needs them."""

import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from k2.cli.commands import (
    audit,
    crd,
    doctor,
    down,
    keys,
    logs,
    query,
    replay,
    serve,
    sql,
    status,
    up,
    watch,
)
from k2.cli.commands.markets import book, instruments
from k2.cli.commands.recovery import backup, dead_letters, rebuild, recover
from k2.cli.exits import BAD_INPUT, ignore_sigpipe, say
from k2.cli.feed_files import read_feed
from k2.cli.group import OneLineGroup

_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})

app = typer.Typer(
    name="k2",
    help="Every trade of every exchange, once, provably complete.",
    cls=OneLineGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def validate(
    path: Annotated[Path, typer.Argument(help="an ExchangeFeed; '-' reads standard input", allow_dash=True)],
) -> None:
    """Check an ExchangeFeed without running it. Exit 0 if it is valid, 2 if not."""
    feed = read_feed(path)
    topics = ", ".join(feed.topic(channel) for channel in feed.channels)
    symbols = len(feed.names) or "selected"
    typer.echo(f"{feed.name}: {symbols} symbols on {feed.spec.exchange}, topic {topics}")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def simulate(context: typer.Context) -> None:
    """Simulate an exchange on this machine: k2 simulate EXCHANGE [--port P] [--seed N] [--rate R] ..."""
    from k2.ingest.simulator.runner import main as serve

    ignore_sigpipe()
    raise typer.Exit(serve(context.args))


for module in (
    up,
    status,
    down,
    logs,
    query,
    book,
    sql,
    instruments,
    watch,
    replay,
    audit,
    recover,
    dead_letters,
    rebuild,
    backup,
    serve,
    keys,
    crd,
):
    module.register(app)
app.command("doctor")(doctor.doctor)


def run() -> None:
    """Run the console script. A closed pipe ends it quietly; an output that cannot be written is reported."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.filename or error.errno not in _UNWRITABLE:
            raise
        with suppress(OSError):  # at exit, Python flushes the rest again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        say(f"standard output cannot be written: {error.strerror}")
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    run()
