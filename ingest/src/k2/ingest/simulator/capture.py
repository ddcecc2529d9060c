"""Read recorded frames from the two common capture formats. Files in, frames out; no clock.

Either each line is `<receive time, ns> <frame>`, or `<receive time, s>: <frame>` with `<->` lines for connects and
`<-` lines for what the recorder sent.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

_NANOSECONDS = re.compile(rb"([0-9]{19}) ([\[{].*)")
_SECONDS = re.compile(rb"([0-9]{10}(?:\.[0-9]+)?): ([\[{].*)")


class UnreadableCapture(ValueError):
    """A file without recorded frames."""


def frames(path: Path) -> Iterator[tuple[float, bytes]]:
    """Yield receive time (seconds since 1970) and frame, in file order. Raises `UnreadableCapture`."""
    has_frames = False
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for line in lines:
                if match := _NANOSECONDS.match(line):
                    has_frames = True
                    yield int(match[1]) / 1e9, match[2].rstrip()
                elif match := _SECONDS.match(line):
                    has_frames = True
                    yield float(match[1]), match[2].rstrip()
    except (OSError, EOFError) as error:
        raise UnreadableCapture(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not has_frames:
        raise UnreadableCapture(f"{path}: no line has the form `<time> <frame>`")
