"""Pace a replay: each trade follows the first after the original interval divided by the speed."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery
from k2.schemas.records.trade import Trade

MAX: Final = "max"
_SPEED: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,4})?")
_MAX_CHUNK: Final = 4096  # trades of one chunk


def parse_speed(text: str) -> float:
    """Parse a speed: a factor of the original pace; `max` is 0. Raises `BadQuery`."""
    if text.lower() == MAX:
        return 0.0
    if not _SPEED.fullmatch(text):
        raise BadQuery(
            f"{format_value(text)} is not a speed; write 1 for the original pace, 10 for ten times that, or max"
        )
    return float(text)


@dataclass(slots=True)
class Pace:
    """Compute how long to wait. `clock` is monotonic, in seconds; a speed of 0 never waits."""

    speed: float
    clock: Callable[[], float]
    _began: float = field(default=0.0, init=False)
    _first: int | None = field(default=None, init=False)

    def wait(self, timestamp: int) -> float:
        """Return the seconds until a trade of this time (microseconds) is due. The first is due at once."""
        if not self.speed:
            return 0.0
        now = self.clock()
        if self._first is None:
            self._began, self._first = now, timestamp
        return (timestamp - self._first) / 1e6 / self.speed - (now - self._began)


def paced(trades: Iterable[Trade], pace: Pace, sleep: Callable[[float], None]) -> Iterator[list[Trade]]:
    """Yield the trades in order, in chunks of those that are due; sleep until the next one is."""
    chunk: list[Trade] = []
    for trade in trades:
        wait = pace.wait(trade.timestamp)
        if chunk and (wait > 0 or len(chunk) >= _MAX_CHUNK):
            yield chunk
            chunk = []
            wait = pace.wait(trade.timestamp)
        if wait > 0:
            sleep(wait)
        chunk.append(trade)
    if chunk:
        yield chunk
