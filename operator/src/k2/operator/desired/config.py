"""The ConfigMap with the feed that its pods read, and hashes of the parts of it that each pod depends on."""

from typing import Any, Final

import yaml

from k2.operator.desired.hashing import digest
from k2.operator.desired.naming import COMBINED, LAYERS, Manifest, config_name, metadata
from k2.schemas import egress, sharding
from k2.schemas.channels import Channel
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.sharding import Counts

_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # every round dumps; libyaml is ten times as fast

# Fields that pods do not read. `suspend` is one: a pod that runs is not suspended.
_NOT_FOR_PODS: Final[dict[str, Any]] = {
    "suspend": True,
    "deletion_policy": True,
    "rebuild_nonce": True,
    "ingest": {"resources"},
    "placement": True,
    "layers": {layer: {"resources", "executors"} for layer in LAYERS},
}


def config_map(feed: ExchangeFeed, processes: int, counts: Counts = ()) -> Manifest:
    """Build the ConfigMap: the feed's file, how many ingest processes share its address, and how many shards there are.

    Ingest pods follow the mounted files: when one changes, none of them restarts.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(feed, config_name(feed), "config"),
        "data": {
            "feed.yaml": yaml.dump(_document(feed), Dumper=_DUMPER, sort_keys=True, width=120),
            egress.FILE: egress.encode(processes),
            sharding.FILE: sharding.encode(counts or (feed.shard_count,)),
        },
    }


def ingest_hash(feed: ExchangeFeed, channel: Channel) -> str:
    """Hash how a channel is ingested and published. Which symbols it has, each pod follows in its file."""
    spec = _document(feed)["spec"]
    ingest = {key: value for key, value in spec["ingest"].items() if key not in {"shards", "autoscale", "redundancy"}}
    own = [spec[channel.name]] if channel.name in spec else []  # the field of the channel's name has its settings
    return digest([feed.name, spec["exchange"], [feed.topic(channel)], ingest, *own])


def layer_hash(feed: ExchangeFeed, layer: str) -> str:
    """Hash the configuration of one layer. Gold's driver also enforces the retention of Bronze and Silver."""
    layers = feed.spec.layers
    triggers = {name: getattr(layers, name).trigger for name in LAYERS if layer in {name, COMBINED}}
    retention = () if layer in {"bronze", "silver"} else (layers.bronze.retention, layers.silver.retention)
    topics = [feed.topic(channel) for channel in feed.channels]
    return digest([feed.name, feed.spec.exchange, topics, triggers, retention])


def _document(feed: ExchangeFeed) -> dict[str, Any]:
    document = feed.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"spec": _NOT_FOR_PODS})
    return dict(document)
