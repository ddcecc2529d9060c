"""What this process may ask of one exchange: its share of the address's requests and connections, and no more in a ban.

One object a process, shared by its REST requests and its websocket handshakes. Pure: the caller passes a monotonic
clock, and UTC where the exchange counts by it.
"""

from dataclasses import replace

from k2.ingest.backfill.rate_limit import TokenBucket
from k2.ingest.connection.liveness import ConnectBudget
from k2.ingest.exchanges.answers import ALL_TRANSIENT, RestAnswers, seconds
from k2.ingest.exchanges.base import Limits, RestBudget


class AddressLimits:
    """The limits of the address from which this process reaches an exchange, divided among `processes` that share it.

    Where the exchange tells how much of its budget the address has used, that corrects what this process thinks is
    left: others may use the same address.
    """

    def __init__(
        self, budget: RestBudget, limits: Limits, answers: RestAnswers = ALL_TRANSIENT, processes: int = 1
    ) -> None:
        self._budget = budget
        self._limits = limits
        self._answers = answers
        self._bucket = TokenBucket(budget, 0.0)  # full, whatever the time of the first request
        self._connects = ConnectBudget(0, 0.0)
        self._requests_after = 0.0
        self._connects_after = 0.0
        self.processes = 1
        self.divide(processes)

    def divide(self, processes: int) -> None:
        """Share the address with a changed number of processes, this one included."""
        self.processes = max(1, processes)
        budget, limits = self._budget, self._limits
        share = replace(budget, rate=budget.rate / self.processes, burst=budget.burst / self.processes)
        self._bucket.change(share)
        most = limits.connects // self.processes
        stretched = limits.connects_period * self.processes / limits.connects if limits.connects else 0.0
        self._connects.most = max(1, most) if limits.connects else 0
        self._connects.period = limits.connects_period if most else stretched

    def request(self, weight: float, now: float) -> float:
        """Return the seconds to wait before a request, which counts from then on; see `banned`."""
        return max(self._bucket.take(weight, now), self.banned(now))

    def banned(self, now: float) -> float:
        """Return the seconds for which the exchange wants no request, also none that has waited for its turn."""
        return max(0.0, self._requests_after - now)

    def forbid(self, wait: float, now: float, *, connects: bool = False) -> None:
        """Send no request for `wait` seconds, as the exchange demanded; with `connects`, open no websocket either."""
        self._bucket.back_off(wait, now)
        self._requests_after = max(self._requests_after, now + wait)
        if connects:
            self._connects_after = max(self._connects_after, now + wait)

    def connect(self, now: float) -> float:
        """Return the seconds to wait before opening a websocket, which counts from then on; see `connects_banned`."""
        start = now + self.connects_banned(now)
        return start - now + self._connects.take(start)

    def connects_banned(self, now: float) -> float:
        """Return the seconds for which the exchange wants no connection."""
        return max(0.0, self._connects_after - now)

    def handshake_refused(self, status: int, retry_after: str | None, now: float) -> bool:
        """Take the answer to a handshake; return whether the exchange wants no connection for a while."""
        pause = self._answers.pause(status, None, b"")
        if pause is None:
            return False
        wait = seconds(retry_after)
        self._connects_after = max(self._connects_after, now + (pause.seconds if wait is None else wait))
        return True

    def used(self, header: str | None, now: float, utc: float) -> None:
        """Take the exchange's own counter, as a reply's header has it; `utc` is the time in seconds since 1970.

        What the other processes may still use, and what this one gains until the counter starts again, is left to them.
        """
        budget = self._budget
        if header is None or not (header.isascii() and header.isdigit()):
            return
        left = budget.period - utc % budget.period
        gained = budget.rate / self.processes * left
        self._bucket.cap((budget.limit - float(header)) / self.processes - gained, now)

    @property
    def counter(self) -> str:
        """The header in which the exchange tells how much of its budget this address has used; empty if it does not."""
        return self._budget.counter
