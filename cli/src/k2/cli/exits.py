"""How a command ends: 0 done, 1 the check failed, 2 bad input, 3 a needed service could not be reached."""

import sys
from typing import Final, NoReturn

import typer

FAILED: Final = 1
BAD_INPUT: Final = 2
UNREACHABLE: Final = 3


def refuse(*lines: str, code: int = BAD_INPUT) -> NoReturn:
    """Says why on standard error, a line each, and exits."""
    for line in lines:
        sys.stderr.write(f"{line}\n")
    raise typer.Exit(code)
