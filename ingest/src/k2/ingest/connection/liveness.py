"""Connection liveness and reconnect backoff. Pure: the caller passes a monotonic clock, in seconds."""

import random
from dataclasses import dataclass, field
from typing import Final, Literal

BACKOFF_FIRST: Final = 5.0
BACKOFF_LIMIT: Final = 60.0
_LIQUID_INTERVAL: Final = 3.0  # a symbol with this mean interval does not pause for `quiet_after` by chance
_SMOOTHING: Final = 0.1


@dataclass(slots=True)
class Backoff:
    """Exponential backoff from `first` to `limit` seconds with 20 % jitter. Only data resets it, not a connection."""

    rng: random.Random
    first: float = BACKOFF_FIRST
    limit: float = BACKOFF_LIMIT
    attempts: int = 0

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt."""
        delay = min(self.limit, self.first * 2.0 ** min(self.attempts, 16))
        self.attempts += 1
        return delay * self.rng.uniform(0.8, 1.2)

    def reset(self) -> None:
        """Start from the first delay again, because data arrived."""
        self.attempts = 0


@dataclass(slots=True)
class Liveness:
    """Decide whether a connection is still alive.

    Two deadlines: no frame at all, pings and heartbeats included, for `stale_after`; and no record for `quiet_after`
    although a liquid symbol is subscribed, the symptom of an exchange that stopped sending without closing.
    """

    stale_after: float
    max_age: float
    opened_at: float
    quiet_after: float = 30.0
    last_frame_at: float = field(init=False)  # starts at opened_at, so a connection that never sends is stale too
    last_record_at: float = field(init=False)
    _intervals: dict[str, float] = field(default_factory=dict, init=False)
    _record_at: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.last_frame_at = self.last_record_at = self.opened_at

    def frame(self, now: float) -> None:
        """Take note of a frame."""
        self.last_frame_at = now

    def record(self, symbol: str, now: float) -> None:
        """Take note of a record of `symbol`. Called at most once per second and symbol."""
        self.last_record_at = now
        if (before := self._record_at.get(symbol)) is not None:
            mean = self._intervals.get(symbol, now - before)
            self._intervals[symbol] = mean + _SMOOTHING * (now - before - mean)
        self._record_at[symbol] = now

    def restart(self, now: float) -> None:
        """Restart both deadlines after a pause in reading on our side."""
        self.last_frame_at = self.last_record_at = now

    def close_reason(self, now: float) -> Literal["stale", "quiet", "aged"] | None:
        """Return why the connection should be closed, or None."""
        if now - self.last_frame_at >= self.stale_after:
            return "stale"
        if now - self.last_record_at >= self.quiet_after and self._liquid():
            return "quiet"
        return "aged" if now - self.opened_at >= self.max_age else None

    def _liquid(self) -> bool:
        return any(interval <= _LIQUID_INTERVAL for interval in self._intervals.values())
