"""The circuit breaker between the socket and Kafka. Pure: the caller passes a monotonic clock."""

from dataclasses import dataclass, field
from enum import IntEnum


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
