"""`k2 crd`: prints the CustomResourceDefinition of ExchangeFeed."""

import sys

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(crd)


def crd() -> None:
    """Print the CustomResourceDefinition of ExchangeFeed: k2 crd | kubectl apply --server-side -f -."""
    from k2.schemas.feed.crd import text

    sys.stdout.write(text())
