"""Every metric of the operator."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECONCILED: Final = Histogram("k2_operator_reconcile_seconds", "how long a round took", ["feed"])
FAILED: Final = Counter("k2_operator_reconcile_errors", "rounds that did not end well", ["feed"])
UP: Final = Gauge("k2_operator_up", "1 while the operator runs, with feeds and without")
PHASE: Final = Gauge("k2_feed_phase", "1 for the phase that a feed is in", ["feed", "exchange", "phase"])

_PHASES: Final = ("Pending", "Progressing", "Running", "Degraded", "Suspended", "Failed", "Deleting")

UP.set(1)


def phase(feed: str, exchange: str, current: str) -> None:
    """Notes the phase that a feed is in."""
    for known in _PHASES:
        PHASE.labels(feed=feed, exchange=exchange, phase=known).set(known == current)


def forget(feed: str, exchange: str) -> None:
    """A feed is gone."""
    for known in _PHASES:
        PHASE.remove_by_labels({"feed": feed, "exchange": exchange, "phase": known})
    RECONCILED.remove_by_labels({"feed": feed})
    FAILED.remove_by_labels({"feed": feed})
