"""The circuit breaker between the socket and Kafka. Pure: the caller passes a monotonic clock."""

from dataclasses import dataclass, field
from enum import IntEnum


class State(IntEnum):
    """The state of a circuit breaker; the numbers are the values of the metric."""

    CLOSED = 0  # Kafka accepts records
    HALF_OPEN = 1  # Kafka answers again, the backlog drains, the socket is not read
    OPEN = 2  # Kafka does not answer or the buffer is full: the socket is not read


@dataclass(slots=True)
class Circuit:
    """Protect the bounded buffer before Kafka: while open, the socket is not read. Nothing is dropped.

    It opens when the buffer is four fifths full, or when records are waiting and no acknowledgement arrived for
    `ack_timeout` seconds. It closes when acknowledgements arrive and the buffer is below two fifths.
    """

    capacity: int
    ack_timeout: float
    now: float
    state: State = State.CLOSED
    closed: bool = field(default=True, init=False)  # whether that is the state; asked for every record
    _last_ack: float = field(init=False)
    _acked: int = 0

    def __post_init__(self) -> None:
        self._last_ack = self.now

    def update(self, in_flight: int, acked: int, failing: bool, now: float) -> State:
        """Return the new state.

        `in_flight` counts unacknowledged records, `acked` all acknowledgements so far, and `failing` says whether
        Kafka rejects records.
        """
        if acked != self._acked or in_flight == 0:
            self._acked, self._last_ack = acked, now
        answering = now - self._last_ack < self.ack_timeout and not failing
        if not answering or in_flight >= self.capacity * 4 // 5:
            self.state = State.OPEN
        elif self.state is not State.CLOSED:
            self.state = State.HALF_OPEN if in_flight > self.capacity * 2 // 5 else State.CLOSED
        self.closed = self.state is State.CLOSED
        return self.state
