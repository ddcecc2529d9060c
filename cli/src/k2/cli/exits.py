"""Exit codes: 0 success, 1 a check failed, 2 bad input, 3 a required service is unreachable."""

import contextlib
import signal
import sys
from typing import Final, NoReturn

import typer

FAILED: Final = 1
BAD_INPUT: Final = 2
UNREACHABLE: Final = 3


class Refused(typer.Exit):
    """The exit of a command that cannot do what it was asked to. `reason` is what it printed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.reason = reason


def refuse(*lines: str, code: int = BAD_INPUT) -> NoReturn:
    """Print the lines on standard error and exit, with `Refused`."""
    for line in lines:
        sys.stderr.write(f"{line}\n")
    raise Refused(code, "\n".join(lines))


def say(message: str) -> None:
    """Print one line on standard error; ignore a closed one."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def ignore_sigpipe() -> None:
    """Ignore SIGPIPE, for servers: a client that disconnects, or a closed output, must not end the process."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
