"""The PodMonitor or ServiceMonitor by which Prometheus discovers a feed's pods."""

from collections.abc import Iterator

from k2.operator.desired.naming import METRICS, Manifest, metadata, selector
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed


def monitors(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """Build the PodMonitor or ServiceMonitor, or nothing if the setting `monitor` is None."""
    if settings.monitor == "None":
        return
    about = metadata(feed, feed.name, "metrics")
    about["labels"] |= settings.monitor_labels
    endpoint = {"port": METRICS, "path": "/metrics", "interval": settings.monitor_interval}
    if settings.monitor == "PodMonitor":
        spec = {"selector": {"matchLabels": selector(feed)}, "podMetricsEndpoints": [endpoint]}
    else:
        spec = {"selector": {"matchLabels": selector(feed, "metrics")}, "endpoints": [endpoint]}
    yield {"apiVersion": "monitoring.coreos.com/v1", "kind": settings.monitor, "metadata": about, "spec": spec}
