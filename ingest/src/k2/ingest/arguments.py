"""Argument parsing of the ingest processes: errors are one line that says what to change."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line and exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def number(kind: Callable[[str], float], least: float) -> Callable[[str], float]:
    """Return an argument type for finite numbers of at least `least`."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: must be a number >= {least}")
        return value

    return read


def port(text: str) -> int:
    """Parse a port number; 0 means any free port."""
    if not (text.isascii() and text.isdecimal()) or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: must be 0 to 65535")
    return int(text)
