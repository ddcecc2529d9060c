"""Prometheus metrics of the Spark jobs, and the state of each layer that they and `/status` report."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from msgspec import UNSET
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from k2.schemas.channels import TRADES
from k2.schemas.states import QueryState
from k2.schemas.status import AuditResult, LayerStatus
from k2.schemas.values import from_micros

_LABELS: Final = ("exchange", "feed", "channel")
_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class LayerState:
    """The state of one layer of one feed and channel.

    Times are in seconds since 1970; `newest` is in UTC microseconds. `channel` is empty for the gaps, which a feed has
    once.
    """

    layer: str
    channel: str
    exchange: str
    feed: str
    trigger: float
    state: str = QueryState.STARTING
    message: str = ""
    rows: int = 0
    epoch: int = -1
    batches: int = 0
    newest: int = 0  # ingestion time of the newest row in the table
    committed_at: float = 0.0
    polled_at: float = field(default_factory=time.time)  # last time it committed, or had nothing to read
    durations: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    seconds: float = 0.0
    dead_letters: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    incomplete_hours: int | None = None  # of the feed's symbols, from the newest audit
    audited_at: float = 0.0

    @property
    def name(self) -> str:
        """The name in `/status`: the layer, preceded by the channel for every channel but trades."""
        return self.layer if self.channel in {"", TRADES.name} else f"{self.channel}/{self.layer}"

    @property
    def labels(self) -> tuple[str, str, str]:
        """The values of the labels that all metrics have."""
        return self.exchange, self.feed, self.channel

    def record_batch(self, duration: float) -> None:
        """Record a committed micro-batch that took `duration` seconds."""
        self.batches += 1
        self.seconds += duration
        self.durations[next((i for i, bound in enumerate(_BOUNDS) if duration <= bound), len(_BOUNDS))] += 1
        self.polled_at = self.committed_at = time.time()

    def batches_behind(self, now: float) -> int:
        """Return the number of triggers that the layer has missed."""
        return max(0, int((now - self.polled_at) / max(self.trigger, 1.0)) - 1)

    def freshness(self, now: float) -> float | None:
        """Return the seconds since the newest row was received; None before the first row."""
        return now - self.newest / 1e6 if self.newest else None

    def status(self) -> LayerStatus:
        """Return the layer's part of the `/status` document."""
        now = time.time()
        freshness = self.freshness(now)
        return LayerStatus(
            state=self.state,
            message=self.message,
            rows=self.rows,
            epoch=self.epoch,
            last_commit_time=_rfc3339(self.committed_at),
            freshness_seconds=round(freshness, 3) if freshness is not None else None,
            batches_behind=self.batches_behind(now),
            dead_letters=self.dead_letters,
            duplicates_dropped=self.duplicates,
            audit=UNSET
            if self.incomplete_hours is None
            else AuditResult(incomplete_hours=self.incomplete_hours, checked_at=_rfc3339(self.audited_at)),
        )


def _rfc3339(seconds: float) -> str | None:
    return from_micros(int(seconds * 1e6)).isoformat() if seconds else None


class JobsCollector(Collector):
    """Export the layers of all feeds to Prometheus."""

    def __init__(self, layers: Iterable[LayerState]) -> None:
        self._layers = list(layers)

    def collect(self) -> Iterable[Metric]:
        """Return all metric families with their current values."""
        now = time.time()
        names = (*_LABELS, "layer")
        rows = CounterMetricFamily("k2_layer_rows", "rows in the layer's table", labels=names)
        behind = GaugeMetricFamily("k2_layer_batches_behind", "triggers missed", labels=names)
        freshness = GaugeMetricFamily("k2_layer_freshness_seconds", "age of the newest row", labels=names)
        durations = HistogramMetricFamily("k2_layer_batch_processing_seconds", "duration of a batch", labels=names)
        running = GaugeMetricFamily("k2_layer_running", "1 while the query runs", labels=names)
        for state in self._layers:
            labels = (*state.labels, state.layer)
            rows.add_metric(labels, state.rows)
            behind.add_metric(labels, state.batches_behind(now))
            running.add_metric(labels, int(state.state == QueryState.RUNNING))
            durations.add_metric(labels, _buckets(state.durations), state.seconds)
            if (seconds := state.freshness(now)) is not None:
                freshness.add_metric(labels, seconds)
        yield from (rows, behind, freshness, durations, running)
        yield self._dead_letters()
        yield self._duplicates()
        yield self._incomplete()

    def _dead_letters(self) -> Metric:
        family = CounterMetricFamily(
            "k2_silver_dead_letters", "rows that failed validation", labels=(*_LABELS, "category")
        )
        for state in self._layers:
            for category, count in state.dead_letters.items():
                family.add_metric((*state.labels, category), count)
        return family

    def _duplicates(self) -> Metric:
        family = CounterMetricFamily("k2_gold_duplicates_dropped", "rows that Gold already had", labels=_LABELS)
        for state in self._layers:
            if state.layer == "gold":
                family.add_metric(state.labels, state.duplicates)
        return family

    def _incomplete(self) -> Metric:
        text = "hours of the last 7 days with missing records, from the newest audit"
        family = GaugeMetricFamily("k2_gold_incomplete_hours", text, labels=_LABELS)
        for state in self._layers:
            if state.incomplete_hours is not None:
                family.add_metric(state.labels, state.incomplete_hours)
        return family


def _buckets(counts: list[int]) -> list[tuple[str, float]]:
    buckets, total = [], 0
    for bound, count in zip((*map(str, _BOUNDS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def registry(layers: Iterable[LayerState]) -> CollectorRegistry:
    """Return a registry with the metrics of these layers only."""
    collectors = CollectorRegistry()
    collectors.register(JobsCollector(layers))
    return collectors
