"""Feed files given on the command line."""

import sys
from contextlib import nullcontext
from pathlib import Path

from k2.cli.exits import refuse
from k2.common.validation_errors import InvalidSpec
from k2.common.yaml_loader import MAX_BYTES
from k2.schemas.feed.model import ExchangeFeed


def read_feed(path: Path) -> ExchangeFeed:
    """Read an ExchangeFeed; `-` is standard input. Exits with 2 and every validation error if it is invalid."""
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            return ExchangeFeed.from_yaml(file.read(MAX_BYTES + 1))  # a device may be endless
    except OSError as error:
        refuse(f"{path}: {error.strerror}")
    except InvalidSpec as error:
        refuse(*(f"{path}: {problem}" for problem in error.problems))
