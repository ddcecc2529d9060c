"""When a gap is asked for again: exponential back-off of its own, so that no gap waits for another. Pure."""

from dataclasses import dataclass
from random import Random
from typing import Final

_FIRST: Final = 2.0  # seconds
_FACTOR: Final = 2.0
_MOST: Final = 60.0  # a repair continues within a minute after the exchange recovered
_PATIENT_AFTER: Final = 60  # attempts, about an hour
_PATIENT_MOST: Final = 600.0


@dataclass(slots=True)
class Schedule:
    """The attempts of one gap. `random` spreads the gaps of one outage."""

    random: Random
    attempts: int = 0

    def delay(self, retry_after: float | None = None) -> float:
        """Return the seconds until the next attempt, at least `retry_after`."""
        limit = _MOST if self.attempts < _PATIENT_AFTER else _PATIENT_MOST
        wait = min(limit, _FIRST * _FACTOR ** min(self.attempts, 32))
        self.attempts += 1
        return max(wait * self.random.uniform(0.5, 1.0), retry_after or 0.0)
