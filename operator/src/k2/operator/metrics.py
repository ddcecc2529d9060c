"""Every metric of the operator."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECONCILED: Final = Histogram("k2_operator_reconcile_seconds", "how long a round took", ["feed"])
FAILED: Final = Counter("k2_operator_reconcile_errors", "rounds that did not end well", ["feed"])
UP: Final = Gauge("k2_operator_up", "1 while the operator runs, with feeds and without")
PHASE: Final = Gauge("k2_feed_phase", "1 for the phase that a feed is in", ["feed", "exchange", "phase"])

_PHASES: Final = ("Pending", "Progressing", "Running", "Degraded", "Suspended", "Failed", "Deleting")

UP.set(1)


# By feed and exchange: the phases of those of one name, by namespace. All but one are refused, and share its series.
_current: Final[dict[tuple[str, str], dict[str, str]]] = {}


def phase(namespace: str, feed: str, exchange: str, current: str) -> None:
    """Notes the phase that a feed is in. Of namesakes the series tell the phases of each."""
    _current.setdefault((feed, exchange), {})[namespace] = current
    _tell(feed, exchange)


def forget(namespace: str, feed: str, exchange: str) -> None:
    """A feed is gone."""
    _current.get((feed, exchange), {}).pop(namespace, None)
    if _current.get((feed, exchange)):
        _tell(feed, exchange)
        return
    _current.pop((feed, exchange), None)
    for known in _PHASES:
        PHASE.remove_by_labels({"feed": feed, "exchange": exchange, "phase": known})
    RECONCILED.remove_by_labels({"feed": feed})
    FAILED.remove_by_labels({"feed": feed})


def _tell(feed: str, exchange: str) -> None:
    found = _current[feed, exchange].values()
    for known in _PHASES:
        PHASE.labels(feed=feed, exchange=exchange, phase=known).set(known in found)
