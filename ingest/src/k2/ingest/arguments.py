"""Argument types of the ingest processes."""

import argparse
import math
from collections.abc import Callable


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
