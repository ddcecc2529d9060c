"""Names, labels and annotations of Kubernetes objects."""

import re
from typing import Any, Final

from k2.operator.desired.hashing import digest
from k2.schemas.feed.model import ExchangeFeed

Manifest = dict[str, Any]

GROUP: Final = "k2.marketdata.io"
MANAGER: Final = "k2-operator"  # the field manager of all applied objects
FEED: Final = f"{GROUP}/feed"
EXCHANGE: Final = f"{GROUP}/exchange"
SHARD: Final = f"{GROUP}/shard"
REPLICA: Final = f"{GROUP}/replica"
CONFIG_HASH: Final = f"{GROUP}/config-hash"
SPEC_HASH: Final = f"{GROUP}/spec-hash"
RESTART_NONCE: Final = f"{GROUP}/restart-nonce"

COMPONENT: Final = "app.kubernetes.io/component"
INGEST: Final = "ingest"
PURGE: Final = "purge"
REBUILD: Final = "rebuild"
LAYERS: Final = ("bronze", "silver", "gold")
COMBINED: Final = "layers"
STATUS_PORT: Final = 9101  # ingest: /metrics, /status, /healthz, /readyz
JOBS_PORT: Final = 9102  # layers: /metrics, /status, /healthz
METRICS: Final = "metrics"  # the name of either port

_TOPIC_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")


def labels(feed: ExchangeFeed, component: str) -> dict[str, str]:
    """Return the labels of one component. No version label: an upgrade must not restart pods that did not change."""
    return {
        "app.kubernetes.io/name": "k2",
        "app.kubernetes.io/part-of": "k2",
        "app.kubernetes.io/managed-by": MANAGER,
        EXCHANGE: feed.spec.exchange,
        **selector(feed, component),
    }


def selector(feed: ExchangeFeed, component: str = "") -> dict[str, str]:
    """Return the labels that select a feed's pods, or those of one component. Selectors are immutable.

    None is `app.kubernetes.io/instance`: Argo CD takes an object that has it for one of its Application of that name,
    and prunes it.
    """
    matched = {FEED: feed.name}
    return {**matched, COMPONENT: component} if component else matched


def metadata(feed: ExchangeFeed, name: str, component: str, **more: Any) -> Manifest:
    """Build the metadata of an object in the feed's namespace."""
    return {"name": name, "namespace": feed.metadata.namespace, "labels": labels(feed, component), **more}


def ingest_name(feed: ExchangeFeed, shard: int, replica: int) -> str:
    """Return the name of the Deployment of one shard and replica."""
    return f"{feed.name}-shard-{shard}-{replica}"


def config_name(feed: ExchangeFeed) -> str:
    """Return the name of the ConfigMap that holds the feed."""
    return f"{feed.name}-feed"


def application_names(feed: ExchangeFeed) -> dict[str, str]:
    """Return the name of the SparkApplication that runs each layer."""
    if feed.spec.layers.topology == "Combined":
        return dict.fromkeys(LAYERS, f"{feed.name}-{COMBINED}")
    return {layer: f"{feed.name}-{layer}" for layer in LAYERS}


def topic_object_name(topic: str) -> str:
    """Return the KafkaTopic name of a topic: the topic's name, or a derived one if Kubernetes does not allow it."""
    if _TOPIC_NAME.fullmatch(topic):
        return topic
    readable = re.sub(r"[^-.a-z0-9]", "-", topic.lower()).strip("-.") or "topic"
    return f"{readable}-{digest(topic)[:8]}"
