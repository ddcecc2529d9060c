"""The NetworkPolicies of a feed's pods."""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from k2.common import tracing
from k2.operator.desired.naming import COMPONENT, FEED, INGEST, STATUS_PORT, Manifest, metadata, selector
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

_DNS: Final = (53, 5353)  # policies see the port of the pods that serve it; on OpenShift it is the second
_TLS: Final = 443
_LINK_LOCAL: Final = ("169.254.0.0/16",)  # where clouds serve credentials
_PRIVATE: Final = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_LINK_LOCAL_IPV6: Final = ("fe80::/10", "fd00:ec2::254/128")
_PRIVATE_IPV6: Final = ("fc00::/7",)
_DEFAULT_PORTS: Final = {"ws": 80, "http": 80, "wss": 443, "https": 443, "postgresql": 5432}
_JOBS: Final = "jobs"


def network_policies(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """Build the policies of the ingest and of the Spark pods, if policies are enabled.

    Egress of the ingest is limited to DNS, the exchange, Kafka and the schema registry; ingress to the port of metrics
    and status. Spark pods reach DNS, the platform's services, the API server and one another.
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
                "egress": _ingest_egress(feed, settings),
            },
        }
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(feed, f"{feed.name}-{_JOBS}", _JOBS),
            "spec": {
                "podSelector": _spark_pods(feed),
                "policyTypes": ["Egress"],
                "egress": _jobs_egress(feed, settings),
            },
        }


def _spark_pods(feed: ExchangeFeed) -> Manifest:
    other = {"key": COMPONENT, "operator": "NotIn", "values": [INGEST]}
    return {"matchLabels": {FEED: feed.name}, "matchExpressions": [other]}


def _ingest_egress(feed: ExchangeFeed, settings: Settings) -> list[Manifest]:
    return [
        _DNS_RULE,
        {"ports": [_port(port) for port in _exchange_ports(feed)], "to": _exchanges(settings)},
        *_proxy(settings),
        *_kafka(feed, settings),
        _registry(feed, settings),
        *_traces(feed, settings),
    ]


def _jobs_egress(feed: ExchangeFeed, settings: Settings) -> list[Manifest]:
    services = [url for url in (settings.catalog_uri, settings.catalog_oauth2_uri) if url]
    uses_s3 = any(place.startswith("s3") for place in (settings.warehouse, settings.checkpoints))
    if uses_s3:
        services.append(settings.s3_endpoint or "https://s3.amazonaws.com")
    rules = [
        _DNS_RULE,
        *_kafka(feed, settings),
        _registry(feed, settings),
        *_traces(feed, settings),
        *(_service(feed, settings, urlsplit(url)) for url in services),
        # Drivers create executors. The API server's address depends on the cluster.
        {"ports": [_port(port) for port in settings.api_server_ports], "to": _anywhere(settings)},
        {"to": [{"podSelector": _spark_pods(feed)}]},
    ]
    if uses_s3 and not settings.s3_secret:  # the pods' workload identity, which clouds serve at link-local addresses
        rules.append({"ports": [_port(80), _port(988)], "to": [{"ipBlock": {"cidr": _LINK_LOCAL[0]}}]})
    return rules


def _registry(feed: ExchangeFeed, settings: Settings) -> Manifest:
    url = urlsplit(settings.registry_url)
    return _service(feed, settings, url, settings.registry_pod_port)


def _service(feed: ExchangeFeed, settings: Settings, url: SplitResult, pod_port: int = 0) -> Manifest:
    port = pod_port or url.port or _DEFAULT_PORTS[url.scheme.partition("+")[0]]
    return {"ports": [_port(port)], "to": _peers(feed, settings, url.hostname or "")}


def _exchanges(settings: Settings) -> list[Manifest]:
    """Return the addresses of exchanges: public ones, and private ones and pods only if the platform allows them."""
    private = settings.allow_private_endpoints
    peers = [_addresses("0.0.0.0/0", _LINK_LOCAL if private else (*_LINK_LOCAL, *_PRIVATE))]
    if settings.egress_ipv6:
        peers.append(_addresses("::/0", _LINK_LOCAL_IPV6 if private else (*_LINK_LOCAL_IPV6, *_PRIVATE_IPV6)))
    # Some network plugins do not count pods among addresses.
    return [*peers, {"namespaceSelector": {}}] if private else peers


def _addresses(network: str, excluded: Sequence[str]) -> Manifest:
    return {"ipBlock": {"cidr": network, "except": list(excluded)}}


def _proxy(settings: Settings) -> Iterator[Manifest]:
    """Yield the rule for the proxy, which is the platform's own and may be anywhere."""
    if settings.https_proxy:
        proxy = urlsplit(settings.https_proxy)
        yield {"ports": [_port(proxy.port or _DEFAULT_PORTS[proxy.scheme])], "to": _anywhere(settings)}


def _anywhere(settings: Settings) -> list[Manifest]:
    """Return the addresses of what the platform names: all but link-local ones, where clouds serve credentials."""
    peers: list[Manifest] = [_addresses("0.0.0.0/0", _LINK_LOCAL), {"namespaceSelector": {}}]
    return [*peers, _addresses("::/0", _LINK_LOCAL_IPV6)] if settings.egress_ipv6 else peers


def _traces(feed: ExchangeFeed, settings: Settings) -> Iterator[Manifest]:
    """Yield the rules for the receivers of traces that the additional variables name."""
    for variable in settings.extra_env:
        if variable["name"] in tracing.ENDPOINTS and (url := urlsplit(str(variable.get("value", "")))).hostname:
            yield _service(feed, settings, url)


def _exchange_ports(feed: ExchangeFeed) -> list[int]:
    """Return 443, and the ports of the endpoints that the feed overrides."""
    spec = feed.spec.ingest
    urls = [urlsplit(url) for url in (*spec.endpoints, spec.rest_endpoint) if url]
    return sorted({_TLS} | {url.port or _DEFAULT_PORTS[url.scheme] for url in urls})


def _kafka(feed: ExchangeFeed, settings: Settings) -> list[Manifest]:
    servers = [server.strip().rpartition(":") for server in settings.kafka_bootstrap.split(",")]
    return [
        {"ports": [_port(port)], "to": _peers(feed, settings, host)}
        for host, port in sorted({(host, int(port)) for host, _, port in servers})
    ]


def _peers(feed: ExchangeFeed, settings: Settings, host: str) -> list[Manifest]:
    """Return the peers of a host name: its namespace for a Service; for a host outside the cluster, any address."""
    name, *rest = host.split(".")
    if not rest and not name.isdigit():
        return [_namespace(feed.metadata.namespace)]
    if len(rest) == 1 or rest[1:2] == ["svc"]:
        return [_namespace(rest[0])]
    return _anywhere(settings)


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _port(port: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"port": port, "protocol": protocol}


_DNS_RULE: Final[Manifest] = {"ports": [_port(port, protocol) for port in _DNS for protocol in ("UDP", "TCP")]}
