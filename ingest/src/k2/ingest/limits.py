"""How fast we may ask, whether Kafka can take more, how much memory there is. Pure: fed with a monotonic clock."""

import math
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

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

    def punish(self, seconds: float, now: float) -> None:
        """The exchange told us to stay away: nothing may be sent for `seconds`."""
        self.now = now
        self._tokens = min(self._tokens, -seconds * self.budget.rate)


class State(IntEnum):
    """A circuit breaker's state; the numbers are the metric's."""

    CLOSED = 0  # Kafka takes what we send
    HALF_OPEN = 1  # Kafka answers again, the backlog drains, the socket waits
    OPEN = 2  # Kafka does not answer or the buffer is full: the socket is not read


@dataclass(slots=True)
class Circuit:
    """Guards the bounded buffer before Kafka. Open means: stop reading the socket. Nothing is ever dropped.

    It opens when the buffer is four fifths full, or when records have waited for an acknowledgement for `patience`
    seconds without one coming; it closes when acknowledgements come and the buffer is below two fifths.
    """

    capacity: int
    patience: float
    now: float
    state: State = State.CLOSED
    _last_ack: float = field(init=False)
    _acked: int = 0

    def __post_init__(self) -> None:
        self._last_ack = self.now

    def update(self, in_flight: int, acked: int, failing: bool, now: float) -> State:
        """The state, from what waits for an acknowledgement, how many ever came, and whether records are refused."""
        if acked != self._acked or in_flight == 0:
            self._acked, self._last_ack = acked, now
        answering = now - self._last_ack < self.patience and not failing
        if not answering or in_flight >= self.capacity * 4 // 5:
            self.state = State.OPEN
        elif self.state is not State.CLOSED:
            self.state = State.HALF_OPEN if in_flight > self.capacity * 2 // 5 else State.CLOSED
        return self.state


def memory_limit(
    files: tuple[str, ...] = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
) -> float:
    """How many bytes this container may use; infinite where nothing limits it."""
    for name in files:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return float(text) if text.isdigit() else math.inf
    return math.inf
