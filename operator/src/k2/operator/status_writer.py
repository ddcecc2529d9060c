"""Write a feed's status and the Events about its changes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from k2.common import logs
from k2.operator import metrics
from k2.operator.api.cluster import Cluster, RequestRejected, ServerError
from k2.operator.api.write_cache import WriteCache
from k2.operator.observed import status
from k2.operator.observed.objects import K8sObject

log = logs.get("status_writer")

_FIGURES_INTERVAL: Final = 10.0  # seconds between two writes that change nothing but figures


class StatusWriter:
    """Writes statuses, if they changed. Changes of figures alone are written at a limited rate."""

    def __init__(self, cluster: Cluster, cache: WriteCache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._written_at: dict[str, float] = {}  # by uid

    async def update_status(self, body: K8sObject, new: Mapping[str, Any], scale_reason: str = "") -> None:
        """Write a status that differs from the body's, and its Events.

        `scale_reason` is why the number of shards changes, or should. Raises `Unavailable` and `RequestRejected`.
        """
        metadata, old = body["metadata"], body.get("status")
        metrics.set_phase(metadata["namespace"], metadata["name"], body["spec"].get("exchange", ""), new["phase"])
        if old is not None and all(old.get(name) == value for name, value in new.items()):
            return
        written_at, now = self._written_at.get(metadata["uid"], 0.0), datetime.now(UTC).timestamp()
        if not status.is_significant(new, old) and now - written_at < _FIGURES_INTERVAL:
            return
        self._written_at[metadata["uid"]] = now
        name = {"name": metadata["name"], "namespace": metadata["namespace"]}
        manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": name, "status": new}
        answer = await self._cluster.apply(manifest, subresource="status")
        if _requested(answer) == _requested(body):  # else the watch event of this write also reports a user's change
            self._cache.record(answer)
        previous, current = status.previous_conditions(body), status.previous_conditions({"status": new})
        changes = [*status.rebuild_events(old, new), *status.listing_events(old, new, body["spec"])]
        changes += status.shard_events(old, new, scale_reason)
        for kind, reason, message in [*status.events(previous, current), *changes]:
            try:
                await self._cluster.event(body, kind, reason, message)
            except (RequestRejected, ServerError) as error:  # the conditions say the same
                log.warning("Event not written", feed=metadata["name"], reason=reason, error=str(error))


def _requested(body: K8sObject) -> list[Any]:
    """Return the metadata that changes when a user requests a change."""
    return [body["metadata"].get(name) for name in ("generation", "annotations", "labels", "deletionTimestamp")]
