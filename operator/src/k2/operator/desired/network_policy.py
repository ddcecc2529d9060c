"""The NetworkPolicy of a feed's ingest pods."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from k2.operator.desired.naming import INGEST, STATUS_PORT, Manifest, metadata, selector
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

_DNS: Final = 53
_TLS: Final = 443
_DEFAULT_PORTS: Final = {"ws": 80, "http": 80, "wss": 443, "https": 443}


def network_policies(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """Build the ingest's NetworkPolicy, if policies are enabled.

    Egress is limited to DNS, the exchange, Kafka and the schema registry; ingress to the port of metrics and status.
    """
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
    registry_port = settings.registry_pod_port or registry.port or _DEFAULT_PORTS[registry.scheme]
    return [
        {"ports": [_port(_DNS, "UDP"), _port(_DNS)]},
        {"ports": [_port(port) for port in _exchange_ports(feed, settings)]},
        *_kafka(feed, settings),
        {"ports": [_port(registry_port)], **_peers(feed, registry.hostname or "")},
    ]


def _exchange_ports(feed: ExchangeFeed, settings: Settings) -> list[int]:
    """Return 443, and the ports of the endpoints that the feed overrides and of the proxy."""
    spec = feed.spec.ingest
    urls = [urlsplit(url) for url in (*spec.endpoints, spec.rest_endpoint, settings.https_proxy) if url]
    return sorted({_TLS} | {url.port or _DEFAULT_PORTS[url.scheme] for url in urls})


def _kafka(feed: ExchangeFeed, settings: Settings) -> list[Manifest]:
    servers = [server.strip().rpartition(":") for server in settings.kafka_bootstrap.split(",")]
    return [
        {"ports": [_port(port)], **_peers(feed, host)}
        for host, port in sorted({(host, int(port)) for host, _, port in servers})
    ]


def _peers(feed: ExchangeFeed, host: str) -> Manifest:
    """Return the peers of a host name: its namespace for a Service; no restriction for a host outside the cluster."""
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
