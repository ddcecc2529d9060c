"""How long each symbol may be silent, learned from its own rate. Pure: the caller passes a clock, in seconds.

Records come in bursts, so seconds with a record are counted, not records. A silence that a Poisson process of that
rate has with a probability below 1e-9 is suspicious, but none below 30 s. The REST API then tells whether the symbol is
quiet or silent. A silent one is subscribed again, then its connection is replaced.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

SHORTEST: Final = 30.0
_IMPROBABLE: Final = -math.log(1e-9)  # mean intervals
_LONGEST: Final = 900.0  # between two questions about a symbol that is quiet
_LONGEST_REPEAT: Final = 3600.0  # between two attempts to get a symbol back
_FEW: Final = 5.0  # mean intervals
_REGULAR: Final = 2.5  # seconds; records are noted once a second
_SMOOTHING: Final = 0.1
_LEARNED: Final = 10  # intervals after which a rate is known


class Remedy(Enum):
    """What to do about a silent symbol."""

    RENEW = "renew"  # subscribe it again
    REPLACE = "replace"  # replace its connection


@dataclass(slots=True)
class Silence:
    """The expectation of one symbol."""

    shortest: float = SHORTEST
    since: float | None = None  # of the silence; None while the symbol is not subscribed
    suspicious: bool = False  # silent for longer than expected
    silent: bool = False  # and the exchange has newer records
    _mean: float = 0.0  # seconds between two seconds with a record
    _intervals: int = 0
    _record_at: float | None = None
    _ask_at: float = math.inf
    _remedies: int = 0
    _patience: float = 0.0  # no question before this time, because remedies did not help

    @property
    def limit(self) -> float:
        """The silence in seconds that is suspicious."""
        return max(self.shortest, _IMPROBABLE * self._mean)

    @property
    def liquid(self) -> bool:
        """Whether the rate is known and so high that the shortest silence is improbable."""
        return self._intervals >= _LEARNED and self.limit <= self.shortest

    def length(self, now: float) -> float:
        """Return how long the symbol has been silent, in seconds."""
        return now - self.since if self.since is not None else 0.0

    def began_after(self, other: "Silence") -> bool:
        """Whether a record of this symbol is newer than the last one of another."""
        return self.since is not None and other.since is not None and self.since > other.since

    def overdue(self, now: float) -> bool:
        """Whether the silence is longer than the rate explains."""
        return self.since is not None and now - self.since >= self.limit

    def regular(self, now: float) -> bool:
        """Whether the last record, or the subscription, is not older than a few intervals of the symbol's rate."""
        return self.since is not None and now - self.since <= max(_REGULAR, _FEW * self._mean)

    def subscribed(self, now: float) -> None:
        """Take note that the exchange acknowledged the symbol: its silence starts, unless it started before."""
        if self.since is None:
            self._start(now)

    def lost(self) -> None:
        """Take note that the symbol is not subscribed any more. What it failed to do before is remembered."""
        self.since = self._record_at = None
        self._ask_at = math.inf
        self.suspicious = False

    def record(self, now: float) -> None:
        """Take note of a record. Called at most once a second."""
        if self._record_at is not None and now > self._record_at:
            interval = now - self._record_at
            self._mean = interval if not self._intervals else self._mean + _SMOOTHING * (interval - self._mean)
            self._intervals += 1
        self._record_at = now
        self._remedies, self._patience = 0, 0.0
        self.silent = False
        self._start(now)

    def restart(self, now: float) -> None:
        """Start the silence again after a pause in reading on our side, which is no interval of the exchange."""
        if self.since is not None:
            self._record_at = None
            self._start(now)

    def ask(self, now: float) -> bool:
        """Return whether the REST API is to be asked now; the next question is due when the silence has doubled."""
        if self.since is None or now < self._ask_at:
            return False
        self.suspicious = True
        self._ask_at = now + min(max(self.limit, now - self.since), _LONGEST)
        return True

    def quiet(self) -> None:
        """Take the REST API's answer that the exchange has no newer record."""
        self.silent = False

    def is_silent(self, now: float) -> Remedy:
        """Take the answer that the exchange has newer records. Return what to do; the next time something stronger."""
        self.silent = True
        self._remedies += 1
        pause = self.limit * 2.0 ** min(max(self._remedies - 2, 0), 16)
        self._ask_at = self._patience = now + min(pause, max(self.limit, _LONGEST_REPEAT))
        return Remedy.RENEW if self._remedies % 2 else Remedy.REPLACE

    def _start(self, now: float) -> None:
        self.since, self.suspicious = now, False
        self._ask_at = max(now + self.limit, self._patience)
