"""Run the statements of a file or a pipe, and stop at the first that fails."""

from collections.abc import Callable
from typing import Final

from k2.cli.shell.splitter import Piece, split
from k2.query.errors import BadQuery, BadStatement, Unavailable

NO_STATEMENT: Final = "has no statement; write one, such as SELECT count(*) FROM gold_crypto_trades"


def run(text: str, name: str, execute: Callable[[Piece], None]) -> None:
    """Execute each statement of a text.

    Raises `BadQuery` or `Unavailable`, whose sentence begins with the place: name, line and perhaps column.
    """
    pieces = list(split(text))
    if not pieces:
        raise BadQuery(f"{name} {NO_STATEMENT}")
    for piece in pieces:
        try:
            execute(piece)
        except BadStatement as error:
            raise BadQuery(f"{name}:{_place(piece, error)}: {error.sentence}") from error
        except BadQuery as error:
            raise BadQuery(f"{name}:{piece.line}: {error}") from error
        except Unavailable as error:
            raise Unavailable(f"{name}:{piece.line}: {error}") from error


def _place(piece: Piece, error: BadStatement) -> str:
    if error.position is None:
        return str(piece.line)
    line, column = error.position.line, error.position.column
    return f"{piece.line + line - 1}:{column + (piece.column - 1 if line == 1 else 0)}"
