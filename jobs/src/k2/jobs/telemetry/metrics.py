"""Every metric of the jobs, declared in one place, and the layers' state that they and /status are read from."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from k2.schemas.values import moment

_LABELS: Final = ("exchange", "feed")
_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class LayerState:
    """One layer of one feed. Times are seconds since 1970; `newest` is UTC microseconds."""

    layer: str
    exchange: str
    feed: str
    trigger: float
    state: str = "STARTING"  # WAITING, RUNNING, FAILED, DRAINED
    message: str = ""
    rows: int = 0
    epoch: int = -1
    batches: int = 0
    newest: int = 0  # ingestion time of the newest row that the layer holds
    committed_at: float = 0.0
    looked_at: float = field(default_factory=time.time)  # when it last looked for work and found none, or did it
    durations: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    seconds: float = 0.0
    dead_letters: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    incomplete_hours: int | None = None  # of the feed's symbols, as the newest audit found them
    audited_at: float = 0.0

    def batch(self, duration: float) -> None:
        """A micro-batch was committed after `duration` seconds."""
        self.batches += 1
        self.seconds += duration
        self.durations[next((i for i, bound in enumerate(_BOUNDS) if duration <= bound), len(_BOUNDS))] += 1
        self.looked_at = self.committed_at = time.time()

    def behind(self, now: float) -> int:
        """How many of its triggers the layer has missed."""
        return max(0, int((now - self.looked_at) / max(self.trigger, 1.0)) - 1)

    def freshness(self, now: float) -> float | None:
        """Seconds since the newest row left its socket; None before the first."""
        return now - self.newest / 1e6 if self.newest else None

    def document(self) -> dict[str, Any]:
        """What /status tells of it."""
        fresh = self.freshness(time.time())
        found = {
            "state": self.state,
            "message": self.message,
            "rows": self.rows,
            "epoch": self.epoch,
            "lastCommitTime": moment(int(self.committed_at * 1e6)).isoformat() if self.committed_at else None,
            "freshnessSeconds": round(fresh, 3) if fresh is not None else None,
            "batchesBehind": self.behind(time.time()),
            "deadLetters": self.dead_letters,
            "duplicatesDropped": self.duplicates,
        }
        if self.incomplete_hours is not None:
            checked = moment(int(self.audited_at * 1e6)).isoformat() if self.audited_at else None
            found["audit"] = {"incompleteHours": self.incomplete_hours, "checkedAt": checked}
        return found


class JobsCollector(Collector):
    """Shows layers to Prometheus."""

    def __init__(self, layers: Iterable[LayerState]) -> None:
        self._layers = list(layers)

    def collect(self) -> Iterable[Metric]:
        """The metric families, with their values now."""
        now = time.time()
        for layer in ("bronze", "silver", "gold"):
            states = [state for state in self._layers if state.layer == layer]
            if not states:
                continue
            rows = CounterMetricFamily(f"k2_{layer}_rows", f"rows that {layer} took", labels=_LABELS)
            behind = GaugeMetricFamily(f"k2_{layer}_batches_behind_total", "triggers missed", labels=_LABELS)
            fresh = GaugeMetricFamily(f"k2_{layer}_freshness_seconds", "age of the newest row", labels=_LABELS)
            busy = HistogramMetricFamily(f"k2_{layer}_batch_processing_seconds", "a micro-batch", labels=_LABELS)
            up = GaugeMetricFamily(f"k2_{layer}_running", "1 while the query runs", labels=_LABELS)
            for state in states:
                labels = (state.exchange, state.feed)
                rows.add_metric(labels, state.rows)
                behind.add_metric(labels, state.behind(now))
                up.add_metric(labels, int(state.state == "RUNNING"))
                busy.add_metric(labels, _buckets(state.durations), state.seconds)
                if (seconds := state.freshness(now)) is not None:
                    fresh.add_metric(labels, seconds)
            yield from (rows, behind, fresh, busy, up)
        yield self._dead_letters()
        yield self._duplicates()
        yield self._incomplete()

    def _dead_letters(self) -> Metric:
        family = CounterMetricFamily("k2_silver_dead_letters", "rows judged invalid", labels=(*_LABELS, "category"))
        for state in self._layers:
            for category, count in state.dead_letters.items():
                family.add_metric((state.exchange, state.feed, category), count)
        return family

    def _duplicates(self) -> Metric:
        family = CounterMetricFamily("k2_gold_duplicates_dropped", "rows that Gold held already", labels=_LABELS)
        for state in self._layers:
            if state.layer == "gold":
                family.add_metric((state.exchange, state.feed), state.duplicates)
        return family

    def _incomplete(self) -> Metric:
        told = "hours of the last 7 days that lack trades, as the newest audit found"
        family = GaugeMetricFamily("k2_gold_incomplete_hours", told, labels=_LABELS)
        for state in self._layers:
            if state.incomplete_hours is not None:
                family.add_metric((state.exchange, state.feed), state.incomplete_hours)
        return family


def _buckets(counts: list[int]) -> list[tuple[str, float]]:
    found, total = [], 0
    for bound, count in zip((*map(str, _BOUNDS), "+Inf"), counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found


def registry(layers: Iterable[LayerState]) -> CollectorRegistry:
    """A registry that holds these metrics and nothing else."""
    found = CollectorRegistry()
    found.register(JobsCollector(layers))
    return found
