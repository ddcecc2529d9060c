"""Which objects a feed owns, so that they are deleted with it, and which of those that exist it wants no more."""

from collections.abc import Iterable, Mapping
from typing import Any

from k2.operator.desired.naming import FEED, Manifest

_DATA = "KafkaTopic"


def owned(manifest: Manifest, feed_body: Mapping[str, Any]) -> Manifest:
    """The manifest, owned by the feed.

    A topic is data: nothing owns it, so that it cannot vanish by accident, and a feed whose data is to be deleted has
    it deleted last. Nothing can own an object of another namespace.
    """
    about = feed_body["metadata"]
    if manifest["kind"] == _DATA or manifest["metadata"]["namespace"] != about.get("namespace", "default"):
        return manifest
    owner = {
        "apiVersion": feed_body["apiVersion"],
        "kind": feed_body["kind"],
        "name": about["name"],
        "uid": about["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return manifest | {"metadata": manifest["metadata"] | {"ownerReferences": [owner]}}


def unwanted(wanted: Iterable[Manifest], live: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The live objects of a feed that nothing asks for any more: a shard fewer, another topology. Never a topic."""
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in wanted}
    return [
        found
        for found in live
        if found["kind"] != _DATA
        and FEED in found["metadata"].get("labels", {})
        and (found["kind"], found["metadata"]["name"]) not in names
    ]
