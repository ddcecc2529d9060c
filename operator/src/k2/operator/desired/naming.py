"""Names, labels and annotations of Kubernetes objects."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from k2.operator.desired.hashing import digest
from k2.schemas.channels import TRADES, Channel
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.sharding import Counts

Manifest = dict[str, Any]

GROUP: Final = "k2.marketdata.io"
MANAGER: Final = "k2-operator"  # the field manager of all applied objects
FEED: Final = f"{GROUP}/feed"
EXCHANGE: Final = f"{GROUP}/exchange"
CHANNEL: Final = f"{GROUP}/channel"  # of the ingest of every channel but trades
SHARD: Final = f"{GROUP}/shard"  # <number> of trades, <channel>-<number> of other channels
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


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection of a feed to its exchange, which has a Deployment of its own."""

    channel: Channel
    shard: int
    replica: int

    def name(self, feed: ExchangeFeed) -> str:
        """Return the name of its Deployment."""
        part = "shard" if self.channel is TRADES else self.channel.name
        return f"{feed.name}-{part}-{self.shard}-{self.replica}"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that only its Deployment and its pod have, of those of the feed.

        The selector of the trades' Deployments is older than other channels and cannot change. It must not match other
        channels' pods, so the channel is part of their shard's label.
        """
        return self.shard_labels | {REPLICA: str(self.replica)}

    @property
    def shard_labels(self) -> dict[str, str]:
        """The labels that all replicas of its shard have."""
        if self.channel is TRADES:
            return {SHARD: str(self.shard)}
        return {CHANNEL: self.channel.name, SHARD: f"{self.channel.name}-{self.shard}"}


def connections(feed: ExchangeFeed, counts: Counts = ()) -> tuple[Connection, ...]:
    """Return the connections of a feed: one for each channel, shard and replica. A shard without symbols has none.

    `counts` are the numbers of shards by which its symbols are spread; none: as the feed says.
    """
    shards, replicas = feed.shards(counts), range(feed.spec.ingest.redundancy)
    return tuple(
        Connection(channel, shard, replica) for channel in feed.channels for shard in shards for replica in replicas
    )


def channel_of(raw: Mapping[str, Any]) -> str:
    """Return the name of the channel of an ingest's Deployment or pod."""
    return str(raw["metadata"].get("labels", {}).get(CHANNEL, TRADES.name))


def shard_number(raw: Mapping[str, Any]) -> int | None:
    """Return the number of the shard of an ingest's Deployment; None without the label."""
    label = raw["metadata"].get("labels", {}).get(SHARD, "")
    return int(label.rpartition("-")[2]) if label else None


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
