"""The REST budget of an exchange as a token bucket. Pure: the caller passes a monotonic clock."""

from dataclasses import dataclass, field

from k2.ingest.exchanges.base import RestBudget


@dataclass(slots=True)
class TokenBucket:
    """Limit requests to an exchange's REST budget. `take` deducts the weight at once, so waits queue up."""

    budget: RestBudget
    now: float
    _tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = self.budget.burst

    def take(self, weight: float, now: float) -> float:
        """Return the seconds to wait before a request of `weight` may be sent."""
        self._tokens = min(self.budget.burst, self._tokens + (now - self.now) * self.budget.rate)
        self.now = now
        self._tokens -= weight
        return max(0.0, -self._tokens / self.budget.rate)

    def change(self, budget: RestBudget) -> None:
        """Limit to another budget from now on. A wait that was begun keeps its length."""
        self._tokens = min(budget.burst, self._tokens * budget.rate / self.budget.rate)
        self.budget = budget

    def cap(self, tokens: float, now: float) -> None:
        """Have no more than `tokens` left, because the exchange has counted more than was taken here."""
        self.take(0.0, now)
        self._tokens = min(self._tokens, tokens)

    def back_off(self, seconds: float, now: float) -> None:
        """Send nothing for `seconds`, as the exchange demanded."""
        self.now = now
        self._tokens = min(self._tokens, -seconds * self.budget.rate)
