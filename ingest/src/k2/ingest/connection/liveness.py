"""When to give up on a connection, and how long to wait before the next. Pure: fed with a monotonic clock.

All times are seconds of that clock; wall-clock jumps do not matter here.
"""

import random
from dataclasses import dataclass, field
from typing import Final, Literal

BACKOFF_FIRST: Final = 5.0
BACKOFF_LIMIT: Final = 60.0
_LIQUID_INTERVAL: Final = 3.0  # a symbol that trades at least this often does not pause for `quiet_after` by chance
_SMOOTHING: Final = 0.1


@dataclass(slots=True)
class Backoff:
    """Waits of 5 s doubling to 60 s, each with a jitter of a fifth. Only data resets it, not a mere connection."""

    rng: random.Random
    first: float = BACKOFF_FIRST
    limit: float = BACKOFF_LIMIT
    attempts: int = 0

    def next_delay(self) -> float:
        """How long to wait before the next attempt."""
        delay = min(self.limit, self.first * 2.0 ** min(self.attempts, 16))
        self.attempts += 1
        return delay * self.rng.uniform(0.8, 1.2)

    def succeeded(self) -> None:
        """Data came: the next failure begins from the first wait again."""
        self.attempts = 0


@dataclass(slots=True)
class Liveness:
    """Whether one connection still lives.

    Two deadlines: no frame at all, pings and heartbeats included, for `stale_after`; and no trade for `quiet_after`
    although a liquid symbol is subscribed, which is how an exchange that went silent without closing looks.
    """

    stale_after: float
    max_age: float
    opened_at: float
    quiet_after: float = 30.0
    last_frame_at: float = field(init=False)  # from opened_at: a feed that is silent from birth is stale too
    last_trade_at: float = field(init=False)
    _intervals: dict[str, float] = field(default_factory=dict, init=False)
    _trade_at: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.last_frame_at = self.last_trade_at = self.opened_at

    def frame(self, now: float) -> None:
        """A frame came."""
        self.last_frame_at = now

    def trade(self, symbol: str, now: float) -> None:
        """A trade of `symbol` came. Called once a second and symbol at most."""
        self.last_trade_at = now
        if (before := self._trade_at.get(symbol)) is not None:
            known = self._intervals.get(symbol, now - before)
            self._intervals[symbol] = known + _SMOOTHING * (now - before - known)
        self._trade_at[symbol] = now

    def resumed(self, now: float) -> None:
        """We stopped reading ourselves for a while; the silence was ours."""
        self.last_frame_at = self.last_trade_at = now

    def close_reason_at(self, now: float) -> Literal["stale", "quiet", "aged"] | None:
        """Why to leave this connection, if there is a reason."""
        if now - self.last_frame_at >= self.stale_after:
            return "stale"
        if now - self.last_trade_at >= self.quiet_after and self._liquid():
            return "quiet"
        return "aged" if now - self.opened_at >= self.max_age else None

    def _liquid(self) -> bool:
        return any(interval <= _LIQUID_INTERVAL for interval in self._intervals.values())
