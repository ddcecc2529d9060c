"""The `k2` command: every verb is registered here, and heavy parts are imported only by the verb that needs them."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from k2.cli import auditing, crds, machine, queries, running
from k2.cli.exits import outlive_pipes

app = typer.Typer(
    name="k2",
    help="Every trade of every exchange, once, provably complete.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def validate(
    path: Annotated[Path, typer.Argument(help="an ExchangeFeed; '-' reads standard input", allow_dash=True)],
) -> None:
    """Check an ExchangeFeed without running it. Exit 0 if it is valid, 2 if not."""
    feed = running.read(path)
    typer.echo(f"{feed.name}: {len(feed.pairs)} symbols on {feed.spec.exchange}, topic {feed.topic}")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def simulate(context: typer.Context) -> None:
    """Be an exchange on this machine: k2 simulate EXCHANGE [--port P] [--seed N] [--rate R] [--capture FILE] ..."""
    from k2.ingest.simulator.run import main as serve

    outlive_pipes()
    raise typer.Exit(serve(context.args))


running.register(app)
queries.register(app)
auditing.register(app)
crds.register(app)
app.command("doctor")(machine.doctor)


def run() -> None:
    """The console script. A closed pipe ends it quietly."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    run()
