"""The PodDisruptionBudget of a feed's ingest."""

from k2.operator.desired.naming import INGEST, Manifest, metadata, selector
from k2.schemas.feed.model import ExchangeFeed


def pod_disruption_budget(feed: ExchangeFeed) -> Manifest:
    """Build the budget: at most one ingest pod is evicted at a time, so never both replicas of a shard.

    It is one for all channels: each exchange's connections are re-established one after another.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(feed, f"{feed.name}-{INGEST}", INGEST),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(feed, INGEST)}},
    }
