"""The `k2` command: every verb is registered here, and heavy parts are imported only by the verb that needs them."""

import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from k2.cli.commands import audit, crd, doctor, query, replay, serve, up, watch
from k2.cli.exits import BAD_INPUT, outlive_pipes, say
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
    feed = up.read(path)
    typer.echo(f"{feed.name}: {len(feed.pairs)} symbols on {feed.spec.exchange}, topic {feed.topic}")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def simulate(context: typer.Context) -> None:
    """Be an exchange on this machine: k2 simulate EXCHANGE [--port P] [--seed N] [--rate R] [--capture FILE] ..."""
    from k2.ingest.simulator.runner import main as serve

    outlive_pipes()
    raise typer.Exit(serve(context.args))


up.register(app)
query.register(app)
watch.register(app)
replay.register(app)
audit.register(app)
serve.register(app)
crd.register(app)
app.command("doctor")(doctor.doctor)


def run() -> None:
    """The console script. A closed pipe ends it quietly; an output that cannot be written is told."""
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
        with suppress(OSError):  # Python writes what is left once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        say(f"standard output cannot be written: {error.strerror}")
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    run()
