"""When a producer hangs: its records make no progress although Kafka answers others. Pure: the caller has the clock.

librdkafka can lose all its brokers when one shuts down gracefully and answers a last metadata request without any
(confluentinc/librdkafka, issue 5301). Such a producer never connects again, reports no error, and holds its records for
ever. Kafka being down is no hang: the records wait for it.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto


class Verdict(Enum):
    """What to do after a probe."""

    WAIT = auto()
    REPLACE = auto()  # the producer hangs: replace it by a new one
    GIVE_UP = auto()  # new producers hang as well: end the process


@dataclass(slots=True)
class Watchdog:
    """Decide from a producer's progress, and from probes of Kafka over other connections, whether it hangs.

    Kafka is probed once the producer made no progress for `stall_after` seconds. Two probes in a row, at least
    `confirm_after` seconds apart, must be answered, because a producer needs a moment to connect to a broker that has
    just returned. `replacements` is how many producers may hang one after another.
    """

    stall_after: float
    confirm_after: float
    replacements: int
    _progress: Hashable = None
    _since: float = 0.0
    _next_probe: float = 0.0
    _answered_at: float | None = None
    _replaced: int = 0
    stuck: bool = field(default=False, init=False)  # a replacement did not help either

    def observe(self, progress: Hashable, now: float) -> bool:
        """Take the producer's progress. Return whether Kafka is to be probed now.

        `progress` changes whenever Kafka reports on a record, and is None while there are none.
        """
        if progress is None or progress != self._progress:
            self._progress, self._since, self._next_probe = progress, now, now + self.stall_after
            self._answered_at, self._replaced, self.stuck = None, 0, False
            return False
        return now >= self._next_probe

    def probed(self, *, answered: bool, now: float) -> Verdict:
        """Take the result of a probe; `answered` says that Kafka would take the records that wait."""
        self._next_probe = now + self.confirm_after
        if not answered:
            self._answered_at = None
            return Verdict.WAIT
        self.stuck = self._replaced > 0
        if self._answered_at is None:
            self._answered_at = now
            return Verdict.WAIT
        if now - self._answered_at < self.confirm_after:
            return Verdict.WAIT
        if self._replaced == self.replacements:
            return Verdict.GIVE_UP
        self._replaced += 1
        self._answered_at, self._next_probe = None, now + self.stall_after
        return Verdict.REPLACE

    def stalled_for(self, now: float) -> float:
        """Return the seconds since the last progress."""
        return now - self._since
