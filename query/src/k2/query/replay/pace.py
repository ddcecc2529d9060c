"""When each trade is told again: as far from the first as it once was, divided by the speed. The clock is given."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from k2.common.validation_errors import shown
from k2.query.errors import BadQuery
from k2.schemas.records.trade import Trade

MAX: Final = "max"
_SPEED: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,4})?")
_MOST: Final = 4096  # trades that are given at once


def speed(text: str) -> float:
    """A speed as users write it: times the original pace; 0 for `max`. Raises `BadQuery`."""
    if text.lower() == MAX:
        return 0.0
    if not _SPEED.fullmatch(text):
        raise BadQuery(f"{shown(text)} is not a speed; write 1 for the original pace, 10 for ten times that, or max")
    return float(text)


@dataclass(slots=True)
class Pace:
    """Tells how long to wait. `clock` is monotonic, in seconds; a speed of 0 never waits."""

    speed: float
    clock: Callable[[], float]
    _began: float = field(default=0.0, init=False)
    _first: int | None = field(default=None, init=False)

    def wait(self, timestamp: int) -> float:
        """Seconds until something of this time (microseconds) is due; 0 or less if it is. The first is due at once."""
        if not self.speed:
            return 0.0
        now = self.clock()
        if self._first is None:
            self._began, self._first = now, timestamp
        return (timestamp - self._first) / 1e6 / self.speed - (now - self._began)


def due(trades: Iterable[Trade], pace: Pace, sleep: Callable[[float], None]) -> Iterator[list[Trade]]:
    """The trades in order, as many at once as are due. It sleeps until the next one is."""
    chunk: list[Trade] = []
    for trade in trades:
        wait = pace.wait(trade.timestamp)
        if chunk and (wait > 0 or len(chunk) >= _MOST):
            yield chunk
            chunk = []
            wait = pace.wait(trade.timestamp)
        if wait > 0:
            sleep(wait)
        chunk.append(trade)
    if chunk:
        yield chunk
