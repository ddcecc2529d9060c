"""A change of the ingest restarts one replica of a shard at a time, so that another one receives meanwhile."""

from collections.abc import Iterable
from typing import Final

from k2.operator.desired.naming import REPLICA, SHARD, Manifest
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import K8sObject

_DEPLOYMENT: Final = "Deployment"


def waits(manifest: Manifest, live: K8sObject, objects: FeedObjects, applies: Iterable[Manifest]) -> bool:
    """Return whether a changed Deployment waits for another replica of its shard.

    One that is not up has nothing to lose, and does not wait: the change may be what makes it start. `applies` is what
    the same round writes before.
    """
    if not manifest["spec"]["replicas"] or not _is_up(live):
        return False
    siblings = [raw for raw in objects.of_kind(_DEPLOYMENT) if _is_sibling(raw, manifest)]
    written = {raw["metadata"]["name"] for raw in applies if raw["kind"] == _DEPLOYMENT}
    return any(raw["metadata"]["name"] in written or not _is_up(raw) for raw in siblings)


def _is_sibling(raw: K8sObject, manifest: Manifest) -> bool:
    labels, own = raw["metadata"].get("labels", {}), manifest["metadata"]["labels"]
    return bool(labels.get(SHARD) == own[SHARD] and labels.get(REPLICA) != own[REPLICA])


def _is_up(raw: K8sObject) -> bool:
    """Return whether the pod of the newest template is ready, and no other one is left."""
    status, generation = raw.get("status") or {}, raw["metadata"].get("generation", 0)
    counts = {name: status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")}
    return status.get("observedGeneration", 0) >= generation and set(counts.values()) == {1}
