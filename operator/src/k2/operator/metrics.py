"""Prometheus metrics of the operator."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from k2.schemas.feed.phases import PHASES

RECONCILE_SECONDS: Final = Histogram("k2_operator_reconcile_seconds", "duration of a reconciliation", ["feed"])
RECONCILE_ERRORS: Final = Counter("k2_operator_reconcile_errors", "reconciliations that failed", ["feed"])
UP: Final = Gauge("k2_operator_up", "1 while the process reconciles, whether or not feeds exist; 0 while it stands by")
PHASE: Final = Gauge(
    "k2_feed_phase", "1 for the current phase of a feed, 0 for the others", ["feed", "exchange", "phase"]
)


# Phase by namespace, for each (feed, exchange). Feeds of one name share a series; all but one of them are refused.
_phases: Final[dict[tuple[str, str], dict[str, str]]] = {}


def set_phase(namespace: str, feed: str, exchange: str, phase: str) -> None:
    """Record the phase of a feed. Feeds of the same name in several namespaces each set their phase to 1."""
    _phases.setdefault((feed, exchange), {})[namespace] = phase
    _update_gauges(feed, exchange)


def remove_feed(namespace: str, feed: str, exchange: str) -> None:
    """Remove the series of a deleted feed, unless another namespace has a feed of that name."""
    _phases.get((feed, exchange), {}).pop(namespace, None)
    if _phases.get((feed, exchange)):
        _update_gauges(feed, exchange)
        return
    _phases.pop((feed, exchange), None)
    for phase in PHASES:
        PHASE.remove_by_labels({"feed": feed, "exchange": exchange, "phase": phase})
    RECONCILE_SECONDS.remove_by_labels({"feed": feed})
    RECONCILE_ERRORS.remove_by_labels({"feed": feed})


def _update_gauges(feed: str, exchange: str) -> None:
    current = _phases[feed, exchange].values()
    for phase in PHASES:
        PHASE.labels(feed=feed, exchange=exchange, phase=phase).set(phase in current)
