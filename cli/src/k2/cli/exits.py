"""How a command ends: 0 done, 1 the check failed, 2 bad input, 3 a needed service could not be reached."""

import contextlib
import signal
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


def say(words: str) -> None:
    """One line for people, on standard error. Nobody need listen any more."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()


def outlive_pipes() -> None:
    """For commands that serve: a client that hangs up, or a reader of their words, must not end them."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
