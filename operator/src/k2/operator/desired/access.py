"""How a feed's pods are reached, watched and fenced in: Service, monitor, NetworkPolicy, PodDisruptionBudget."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from k2.operator.desired.naming import INGEST, METRICS, STATUS_PORT, Manifest, metadata, selector
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

_DNS: Final = 53
_TLS: Final = 443
_PORTS: Final = {"ws": 80, "http": 80, "wss": 443, "https": 443}


def service(feed: ExchangeFeed) -> Manifest:
    """A headless Service that names every pod with metrics: the ingest's, and the layers' drivers."""
    port = {"name": METRICS, "port": STATUS_PORT, "targetPort": METRICS, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(feed, feed.name, "metrics"),
        # A pod that is not ready has the more to tell.
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector(feed),
            "ports": [port],
        },
    }


def monitors(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """The PodMonitor or ServiceMonitor, if one is wanted."""
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


def disruption_budget(feed: ExchangeFeed) -> Manifest:
    """At most one connection of the feed is taken down at a time, so never both replicas of a shard."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(feed, f"{feed.name}-{INGEST}", INGEST),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(feed, INGEST)}},
    }


def network_policies(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """What the ingest may talk to: DNS, the exchange, Kafka, the registry. In comes who reads metrics and status."""
    if settings.network_policy:
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(feed, f"{feed.name}-{INGEST}", INGEST),
            "spec": {
                "podSelector": {"matchLabels": selector(feed, INGEST)},
                "policyTypes": ["Egress", "Ingress"],
                "ingress": [{"ports": [_port(STATUS_PORT)]}],
                "egress": _egress(feed, settings),
            },
        }


def _egress(feed: ExchangeFeed, settings: Settings) -> list[Manifest]:
    registry = urlsplit(settings.registry_url)
    registry_port = settings.registry_pod_port or registry.port or _PORTS[registry.scheme]
    return [
        {"ports": [_port(_DNS, "UDP"), _port(_DNS)]},
        {"ports": [_port(port) for port in _exchange_ports(feed)]},
        *_kafka(feed, settings),
        {"ports": [_port(registry_port)], **_peers(feed, registry.hostname or "")},
    ]


def _exchange_ports(feed: ExchangeFeed) -> list[int]:
    """443, unless the feed names endpoints of its own that listen elsewhere."""
    spec = feed.spec.ingest
    urls = [urlsplit(url) for url in (*spec.endpoints, spec.rest_endpoint) if url]
    return sorted({_TLS} | {url.port or _PORTS[url.scheme] for url in urls})


def _kafka(feed: ExchangeFeed, settings: Settings) -> list[Manifest]:
    servers = [server.strip().rpartition(":") for server in settings.kafka_bootstrap.split(",")]
    return [
        {"ports": [_port(port)], **_peers(feed, host)}
        for host, port in sorted({(host, int(port)) for host, _, port in servers})
    ]


def _peers(feed: ExchangeFeed, host: str) -> Manifest:
    """Who a host name of this cluster stands for; nothing, which is anybody, for a name of the world outside."""
    name, *rest = host.split(".")
    if not rest:
        return {"to": [_namespace(feed.metadata.namespace)]} if not name.isdigit() else {}
    if len(rest) == 1 or rest[1] == "svc":
        return {"to": [_namespace(rest[0])]}
    return {}


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _port(port: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"port": port, "protocol": protocol}
