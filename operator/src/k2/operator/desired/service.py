"""The headless Service of a feed's pods."""

from k2.operator.desired.naming import METRICS, STATUS_PORT, Manifest, metadata, selector
from k2.schemas.feed.model import ExchangeFeed


def service(feed: ExchangeFeed) -> Manifest:
    """Build the headless Service that selects every pod with metrics: ingest pods and the layers' drivers."""
    port = {"name": METRICS, "port": STATUS_PORT, "targetPort": METRICS, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(feed, feed.name, "metrics"),
        # The metrics of a pod that is not ready are the most interesting ones.
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector(feed),
            "ports": [port],
        },
    }
