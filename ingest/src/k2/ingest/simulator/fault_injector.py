"""The fault schedule and the active faults. Pure: the caller passes the seconds since the exchange opened."""

from collections.abc import Iterable, Iterator
from typing import Final

from k2.ingest.simulator.faults import Fault

_COUNTED: Final = frozenset({"drop", "ratelimit", "unavailable", "refuse"})
_TIMED: Final = frozenset({"silent", "quiet", "wrong-pong"})
_BROKEN: Final = ("", "not json", "[1,2", '{"a":' * 200, "null", "[[[[[[[[[[", '{"e":"trade"}', "\u0000")


class FaultInjector:
    """Schedule faults and track how much of each active one remains."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._scheduled = list(faults)
        self._remaining: dict[str, int] = {}
        self._until: dict[str, float] = {}
        self._age = 0.0

    def add(self, fault: Fault) -> None:
        """Schedule one more fault."""
        self._scheduled.append(fault)

    def start_due(self, elapsed: float) -> list[Fault]:
        """Start all due faults. Return the instant ones; counted and timed ones stay active."""
        due = [fault for fault in self._scheduled if fault.at <= elapsed]
        self._scheduled = [fault for fault in self._scheduled if fault.at > elapsed]
        now: list[Fault] = []
        for fault in due:
            if fault.kind in _COUNTED:
                self._remaining[fault.kind] = self._remaining.get(fault.kind, 0) + int(fault.amount)
            elif fault.kind in _TIMED:
                self._until[fault.kind] = elapsed + fault.amount
            elif fault.kind == "cut":
                self._age = fault.amount
            else:
                now.append(fault)
        return now

    def drop_trades(self, trades: int) -> bool:
        """Consume `trades` from an active `drop` fault. Return whether they are not sent."""
        return self._take("drop", trades)

    def refuse_connection(self) -> bool:
        """Consume one `refuse`. Return whether the next connection is refused."""
        return self._take("refuse", 1)

    def rest_error_status(self) -> int:
        """Return the HTTP status that replaces the next REST response; 0 for none."""
        return 429 if self._take("ratelimit", 1) else 503 if self._take("unavailable", 1) else 0

    def silent(self, elapsed: float) -> bool:
        """Return whether nothing at all is sent."""
        return elapsed < self._until.get("silent", 0.0)

    def suppresses_trades(self, elapsed: float) -> bool:
        """Return whether no trades are sent."""
        return self.silent(elapsed) or elapsed < self._until.get("quiet", 0.0)

    def wrong_pong(self, elapsed: float) -> bool:
        """Return whether pings get a wrong pong."""
        return elapsed < self._until.get("wrong-pong", 0.0)

    def too_old(self, age: float) -> bool:
        """Return whether a connection of this age, in seconds, is closed."""
        return bool(self._age) and age > self._age

    @staticmethod
    def malformed_frames(kind: str, count: int, sample: str) -> Iterator[str]:
        """Yield invalid frames, some derived from the real frame `sample`."""
        if kind == "oversized":
            yield from ('{"padding":"' + "x" * (1 << 20) + '"}' for _ in range(count))
        elif kind == "unknown":
            yield from (
                '{"e":"somethingNew","type":"somethingNew","event":"somethingNew","channel":"somethingNew",'
                '"op":"somethingNew"}'
                for _ in range(count)
            )
        elif kind == "malformed":
            broken = (sample[: len(sample) // 2], sample.replace(":", ";", 3), *_BROKEN)
            yield from (broken[index % len(broken)] for index in range(count))

    def _take(self, kind: str, count: int) -> bool:
        remaining = self._remaining.get(kind, 0)
        if remaining > 0:
            self._remaining[kind] = max(0, remaining - count)
        return remaining > 0
