"""Counters of one ingest process. Plain attributes, because they are updated for every record.

`k2.ingest.telemetry.metrics` exports them to Prometheus, `k2.ingest.telemetry.server` as `/status` JSON.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from k2.schemas.channels import Record
from k2.schemas.states import SymbolState

DELIVERY_BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
LAG_BOUNDS: Final = (
    -1.0,
    0.0,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
    60.0,
)  # lag may be negative, because clocks differ


class Counts(dict[str, int]):
    """Counts by name; 0 of what was never counted. A `Counter` takes three times as long."""

    def __missing__(self, name: str) -> int:
        """Return 0."""
        return 0


class Histogram:
    """A histogram with upper bounds in seconds.

    `observe` takes a value in microseconds. Values are sorted into their bounds by `fold`, many at once.
    """

    __slots__ = ("_counts", "_micros", "_total", "_unsorted", "bounds", "observe")

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        self._micros = [int(bound * 1e6) for bound in self.bounds]
        self._counts = [0] * (len(self._micros) + 1)
        self._total = 0
        self._unsorted: list[int] = []
        self.observe: Callable[[int], None] = self._unsorted.append

    def fold(self) -> None:
        """Sort the values since the last call into their bounds; they take memory until then."""
        values = self._unsorted
        values.sort()
        below = 0
        for place, bound in enumerate(self._micros):
            end = bisect_right(values, bound, below)
            self._counts[place] += end - below
            below = end
        self._counts[-1] += len(values) - below
        self._total += sum(values)
        values.clear()

    @property
    def counts(self) -> list[int]:
        """The number of values up to each bound and above the one before; the last has no bound."""
        self.fold()
        return self._counts

    @property
    def total(self) -> int:
        """The sum of all values, in microseconds."""
        self.fold()
        return self._total


@dataclass(slots=True)
class Stats:
    """The counters of one channel of one shard of a feed."""

    started_at: float
    symbols: tuple[str, ...] = ()
    connections: int = 0
    lanes: int = 1  # connections that the symbols need at once
    received: Counts = field(default_factory=Counts)  # records by symbol
    delivered: Counts = field(default_factory=Counts)  # acknowledged records by symbol
    sources: Counter[str] = field(default_factory=Counter)  # received records by live, snapshot, backfill
    failures: int = 0  # delivery reports with an error; the records are resent
    reconnects: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # by kind
    dead_letters: Counter[str] = field(default_factory=Counter)  # by error
    gaps_detected: Counter[str] = field(default_factory=Counter)  # by symbol
    gaps_repaired: Counter[str] = field(default_factory=Counter)
    gaps_unrecoverable: Counter[str] = field(default_factory=Counter)
    gaps_never_issued: Counter[str] = field(default_factory=Counter)
    gaps_open: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)  # by symbol
    circuit: int = 0
    unaccepted: int = 0  # rejected records that Kafka has not accepted since
    in_flight: int = 0
    refused: dict[str, str] = field(default_factory=dict)  # symbols that the exchange refused, with its reason
    symbol_states: dict[str, tuple[SymbolState, str]] = field(default_factory=dict)  # by symbol, with the reason
    silences: Counter[str] = field(default_factory=Counter)  # silences that REST disproved, by symbol
    last_received: int = 0  # UTC microseconds of the newest record's arrival
    newest: dict[str, Record] = field(default_factory=dict)  # the newest record by symbol
    endpoint: str = ""
    message: str = ""  # the last error, for people
    heartbeats: dict[str, float] = field(default_factory=dict)  # when each loop last moved, by name, monotonic
    stuck: str = ""  # why records are stuck although Kafka answers
    resume: str = ""  # what the start could not resume from, for people
    list_read_at: int = 0  # UTC microseconds of the exchange's instrument list; 0: none was read
    list_cached: bool = False  # whether that list is an earlier process's
    list_error: str = ""  # why the last attempt to read it failed
    clock_offset: float | None = None  # seconds that this machine's clock is ahead of the exchange's
    clock_wrong: bool = False  # by more than a second
    halted: tuple[str, ...] = ()  # symbols that the exchange's list has as halted
    matching: int | None = None  # instruments that the feed's selector matches; None without one
    left_out: tuple[str, ...] = ()  # those of them beyond maxSymbols
    rate: float = 0.0  # records per second, smoothed
    loop_lag: float = 0.0  # seconds by which timers are late, smoothed
    spread: tuple[int, ...] = ()  # the numbers of shards of which the process carries its symbols
    resident_bytes: int = 0
    lag: Histogram = field(default_factory=lambda: Histogram(LAG_BOUNDS))
    delivery: Histogram = field(default_factory=lambda: Histogram(DELIVERY_BOUNDS))

    def fold(self) -> None:
        """Sort the newest values of the histograms into their bounds."""
        self.lag.fold()
        self.delivery.fold()

    @property
    def connected(self) -> bool:
        """Whether every connection that the symbols need is open."""
        return self.connections >= self.lanes

    @property
    def symbols_by_state(self) -> dict[SymbolState, int]:
        """The number of wanted symbols in each state; those that no connection has taken yet are wanted."""
        counts = Counter(state for state, _ in self.symbol_states.values())
        counts[SymbolState.PENDING] += max(0, len(self.symbols) - len(self.symbol_states))
        return {state: counts[state] for state in SymbolState}
