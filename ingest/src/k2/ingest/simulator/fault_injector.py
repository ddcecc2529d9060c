"""The fault schedule and the active faults. Pure: the caller passes the seconds since the exchange opened."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

from k2.ingest.simulator.faults import Fault

_COUNTED: Final = frozenset(
    "drop ratelimit unavailable html cut-body passing empty omit disorder other-symbol refuse busy unanswered undone "
    "bad-item book-drop book-repeat book-swap book-cut book-checksum book-cross".split()
)
_TIMED: Final = frozenset({"silent", "quiet", "wrong-pong", "mute", "maintenance", "extra"})
_OF_ONE_SYMBOL: Final = frozenset(
    {"mute", "stuck", "frozen", "halt", "delist", "phantom", "book-reset"}
)  # the last one, if none is named
_BROKEN: Final = ("", "not json", "[1,2", '{"a":' * 200, "null", "[[[[[[[[[[", '{"e":"trade"}', "\u0000")


class FaultInjector:
    """Schedule faults and track how much of each active one remains. `choose` completes the symbol of a fault."""

    def __init__(self, faults: Iterable[Fault] = (), choose: Callable[[str], str] = str) -> None:
        self._scheduled = list(faults)
        self._choose = choose
        self._remaining: dict[str, dict[str, int]] = {}  # by kind and target
        self._until: dict[str, dict[str, float]] = {}
        self._age = 0.0

    def add(self, fault: Fault) -> None:
        """Schedule one more fault."""
        self._scheduled.append(fault)

    def start_due(self, elapsed: float) -> list[Fault]:
        """Start all due faults. Return those that are no mere count of events; counted and timed ones stay active."""
        due = [fault for fault in self._scheduled if fault.at <= elapsed]
        self._scheduled = [fault for fault in self._scheduled if fault.at > elapsed]
        now: list[Fault] = []
        for scheduled in due:
            fault = scheduled
            if fault.kind in _OF_ONE_SYMBOL:
                fault = replace(fault, target=self._choose(fault.target))
            if fault.kind in _COUNTED:
                counts = self._remaining.setdefault(fault.kind, {})
                counts[fault.target] = counts.get(fault.target, 0) + int(fault.amount)
            elif fault.kind == "cut":
                self._age = fault.amount
            else:
                if fault.kind in _TIMED:
                    self._until.setdefault(fault.kind, {})[fault.target] = elapsed + fault.amount
                now.append(fault)
        return now

    def take(self, kind: str, count: int = 1, affected: Collection[str] | str = "") -> bool:
        """Consume `count` of an active fault. Return whether there was one that hits what is `affected`.

        A target is one of several symbols that are affected, or a part of a path.
        """
        counts = self._remaining.get(kind, {})
        for target, remaining in counts.items():
            if remaining > 0 and (not target or target in affected):
                counts[target] = max(0, remaining - count)
                return True
        return False

    def active(self, kind: str, elapsed: float, affected: Collection[str] = ()) -> bool:
        """Return whether a timed fault hits one of `affected`."""
        return any(
            elapsed < until and (not target or target in affected)
            for target, until in self._until.get(kind, {}).items()
        )

    def drop_trades(self, trades: int, raw_symbol: str = "") -> bool:
        """Consume `trades` from an active `drop` fault. Return whether they are not sent."""
        return self.take("drop", trades, [raw_symbol])

    def refuse_connection(self, elapsed: float) -> bool:
        """Consume one `refuse`. Return whether the next connection is refused."""
        return self.active("maintenance", elapsed) or self.take("refuse")

    def silent(self, elapsed: float) -> bool:
        """Return whether nothing at all is sent."""
        return self.active("silent", elapsed)

    def suppresses_trades(self, elapsed: float, raw_symbol: str = "") -> bool:
        """Return whether no trades are sent, or none of this symbol."""
        if self.silent(elapsed) or self.active("quiet", elapsed):
            return True
        return self.active("mute", elapsed, [raw_symbol])

    def wrong_pong(self, elapsed: float) -> bool:
        """Return whether pings get a wrong pong."""
        return self.active("wrong-pong", elapsed)

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
