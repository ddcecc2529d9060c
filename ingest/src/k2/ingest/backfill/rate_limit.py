"""The REST budget of an exchange as a token bucket. Pure: the caller passes a monotonic clock."""

from dataclasses import dataclass, field

from k2.ingest.exchanges.base import RestBudget


@dataclass(slots=True)
class TokenBucket:
    """An exchange's REST budget. `take` says how long to wait; the weight is taken at once, so waits queue up."""

    budget: RestBudget
    now: float
    _tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = self.budget.burst

    def take(self, weight: float, now: float) -> float:
        """Seconds to wait before a request of `weight` may be sent."""
        self._tokens = min(self.budget.burst, self._tokens + (now - self.now) * self.budget.rate)
        self.now = now
        self._tokens -= weight
        return max(0.0, -self._tokens / self.budget.rate)

    def back_off(self, seconds: float, now: float) -> None:
        """The exchange told us to stay away: nothing may be sent for `seconds`."""
        self.now = now
        self._tokens = min(self._tokens, -seconds * self.budget.rate)
