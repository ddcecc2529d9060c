"""The life of a connection and the waits between connections. Pure: the caller passes a clock, in seconds."""

import random
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal

BACKOFF_FIRST: Final = 5.0
BACKOFF_LIMIT: Final = 60.0
_AT_ONCE: Final = 0.25


@dataclass(slots=True)
class Backoff:
    """The waits before reconnects: none before the first, but for a jitter, then from `first` to `limit` seconds.

    The waits double, with 20 % jitter. Only data starts them again, not a connection.
    """

    rng: random.Random
    first: float = BACKOFF_FIRST
    limit: float = BACKOFF_LIMIT
    attempts: int = 0

    def next_delay(self, *, at_once: bool = True) -> float:
        """Return the seconds to wait before the next attempt; `at_once` is false if the exchange asked for patience."""
        self.attempts += 1
        if self.attempts == 1 and at_once:
            return self.rng.uniform(0.0, min(_AT_ONCE, self.first))
        doublings = min(max(self.attempts - 2, 0), 16)
        return min(self.limit, self.first * 2.0**doublings) * self.rng.uniform(0.8, 1.2)

    def reset(self) -> None:
        """Start from the first wait again, because data arrived."""
        self.attempts = 0


@dataclass(slots=True)
class ConnectBudget:
    """At most `most` connection attempts in `period` seconds; 0: any number."""

    most: int
    period: float
    _at: deque[float] = field(default_factory=deque, init=False)

    def take(self, now: float) -> float:
        """Return the seconds to wait before an attempt, which counts from then on."""
        while self._at and self._at[0] <= now - self.period:
            self._at.popleft()
        wait = max(0.0, self._at[-self.most] + self.period - now) if self.most and len(self._at) >= self.most else 0.0
        self._at.append(now + wait)
        return wait


@dataclass(slots=True)
class Patience:
    """With symbols that are never answered: their connection is replaced seldom, because the others pay for it."""

    _not_before: float = field(default=0.0, init=False)
    _wait: float = field(default=600.0, init=False)

    def exhausted(self, unanswered: Collection[str], now: float) -> bool:
        """Return whether to replace the connection now; the next time comes later, at most a day."""
        if not unanswered or now < self._not_before:
            return False
        self._not_before, self._wait = now + self._wait, min(2 * self._wait, 86_400.0)
        return True


@dataclass(slots=True)
class Liveness:
    """Decide whether a connection is still alive: some frame, pings and heartbeats included, every `stale_after`."""

    stale_after: float
    max_age: float
    opened_at: float  # when the handshake was done
    last_frame_at: float = field(init=False)  # starts at opened_at, so a connection that never sends is stale too

    def __post_init__(self) -> None:
        self.last_frame_at = self.opened_at

    def frame(self, now: float) -> None:
        """Take note of a frame."""
        self.last_frame_at = now

    def close_reason(self, now: float) -> Literal["stale", "aged"] | None:
        """Return why the connection should be closed, or None."""
        if now - self.last_frame_at >= self.stale_after:
            return "stale"
        return "aged" if now - self.opened_at >= self.max_age else None
