"""Ownership of a feed's objects: owner references, and live objects that the feed no longer needs."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from k2.operator.desired.naming import FEED, Manifest

_TOPIC: Final = "KafkaTopic"


def with_owner(manifest: Manifest, feed_body: Mapping[str, Any]) -> Manifest:
    """Return the manifest with the feed as its owner.

    A topic is data and has no owner, so that it is never garbage-collected by accident; if the feed's data is to be
    deleted, topics are deleted last. An object cannot own one of another namespace.
    """
    feed = feed_body["metadata"]
    if manifest["kind"] == _TOPIC or manifest["metadata"]["namespace"] != feed.get("namespace", "default"):
        return manifest
    owner = {
        "apiVersion": feed_body["apiVersion"],
        "kind": feed_body["kind"],
        "name": feed["name"],
        "uid": feed["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return manifest | {"metadata": manifest["metadata"] | {"ownerReferences": [owner]}}


def obsolete(desired: Iterable[Manifest], live: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the feed's live objects that are not desired, after a shard less or another topology. Never a topic."""
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in desired}
    return [
        raw
        for raw in live
        if raw["kind"] != _TOPIC
        and FEED in raw["metadata"].get("labels", {})
        and (raw["kind"], raw["metadata"]["name"]) not in names
    ]
