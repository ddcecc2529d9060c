"""Succession of ingest Deployments: one that has another name than before replaces the old one without a gap.

A Deployment's selector is immutable, so one with other labels is a new object. Both run until the new one receives what
the old one does; what both publish meanwhile is de-duplicated, as of replicas.
"""

from collections.abc import Iterable
from typing import Final

from k2.operator.desired.naming import REPLICA, SHARD, Manifest
from k2.operator.observed import objects as parsers
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import K8sObject, Observed
from k2.schemas.states import SymbolState

_DEPLOYMENT: Final = "Deployment"
PENDING: Final = frozenset({SymbolState.PENDING, SymbolState.SENT, SymbolState.UNANSWERED})  # not subscribed yet


def predecessors(
    desired: Iterable[Manifest], obsolete: Iterable[K8sObject], objects: FeedObjects, observed: Observed
) -> frozenset[str]:
    """Return the obsolete Deployments that are still needed: their shard's new Deployment does not receive yet."""
    successors = {_place(raw): raw for raw in desired if raw["kind"] == _DEPLOYMENT}
    return frozenset(
        raw["metadata"]["name"]
        for raw in obsolete
        if raw["kind"] == _DEPLOYMENT
        and (successor := successors.get(_place(raw))) is not None
        and not _receives(successor, objects, observed)
    )


def _place(raw: K8sObject) -> tuple[str, str]:
    """Return the shard and the replica of an ingest Deployment."""
    labels = raw["metadata"]["labels"]
    return labels.get(SHARD, ""), labels.get(REPLICA, "")


def _receives(manifest: Manifest, objects: FeedObjects, observed: Observed) -> bool:
    """Return whether a Deployment's pod is ready and subscribed to all of its symbols, or none is wanted."""
    name = manifest["metadata"]["name"]
    if not manifest["spec"]["replicas"]:
        return True
    live = objects.find(_DEPLOYMENT, name)
    if live is None:
        return False
    deployment = parsers.deployment(live)
    if not deployment.current or deployment.ready < deployment.desired:
        return False
    reports = [shard for shard in observed.shards if shard.pod.startswith(f"{name}-")]
    return any(shard.connected and not PENDING & set(dict(shard.states)) for shard in reports)
