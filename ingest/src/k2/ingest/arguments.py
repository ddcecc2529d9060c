"""Command lines of the ingest's processes: what is wrong with one is told in a line that says what to change."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that tells an error in one line and exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Exits."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def number(kind: Callable[[str], float], least: float) -> Callable[[str], float]:
    """Reads a finite number from `least` on."""

    def read(text: str) -> float:
        try:
            found = kind(text)
        except ValueError:
            found = math.nan
        if not least <= found < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a number from {least} on")
        return found

    return read


def port(text: str) -> int:
    """Reads a port; 0 is any free one."""
    if not (text.isascii() and text.isdecimal()) or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: 0 to 65535")
    return int(text)
