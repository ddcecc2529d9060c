"""Whether a feed's Silver and Gold are to be built again, and how far that is. No clock and no cluster here.

A rebuild is due while `spec.rebuildNonce` is another number than the one that was carried out last, which the status
holds. Silver and Gold stop first: nothing locks a checkpoint in a bucket. Then a Job named by the number runs. When it
ends, either way, the number is done, and the layers run again: a rebuild that failed has left each table as it was, or
rebuilt it whole.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from k2.operator.desired.jobs.rebuild import rebuild_name, rebuild_nonce, rebuilt_parts
from k2.operator.desired.naming import COMPONENT, REBUILD
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Application, K8sObject, Rebuild
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.states import RebuildState

_ENDED: Final = frozenset({"SUSPENDED", "COMPLETED", "FAILED"})  # in other states a driver runs, or may be submitted

_JOB_NAME: Final = "batch.kubernetes.io/job-name"  # the label that Kubernetes sets on a Job's pods


def rebuild(
    feed: ExchangeFeed, body: K8sObject, objects: FeedObjects, applications: Mapping[str, Application]
) -> Rebuild:
    """Return how far the rebuild is that the feed asks for; of a new feed, its number counts as carried out."""
    asked, before = rebuild_nonce(feed), _before(body)
    job = objects.find("Job", rebuild_name(feed))
    if before is None:
        return Rebuild(asked)
    if before.nonce == asked:
        return Rebuild(asked, before.state, before.message, job=job is not None)
    if failure := _condition(job, "Failed"):
        text = f"Job {rebuild_name(feed)} failed, see its log; another number tries again: {failure.get('message', '')}"
        return Rebuild(asked, RebuildState.FAILED, text, job=True)
    if _condition(job, "Complete"):
        return Rebuild(asked, RebuildState.SUCCEEDED, f"Job {rebuild_name(feed)} completed", job=True)
    return _pending(feed, before.nonce, job, [*_running(feed, applications), *_pods(feed, objects.pods)])


def _pending(feed: ExchangeFeed, done: int, job: K8sObject | None, writers: list[str]) -> Rebuild:
    if job is None and feed.spec.suspend:
        return Rebuild(done, RebuildState.PENDING, "begins when the feed is not suspended any more", due=True)
    if job is None and writers:
        return Rebuild(done, RebuildState.PENDING, f"waits until {', '.join(writers)} ended", due=True)
    running = f"Job {rebuild_name(feed)} builds Silver and Gold again"
    return Rebuild(done, RebuildState.RUNNING, running, due=True, job=True)


def _before(body: K8sObject) -> Rebuild | None:
    """Return what the status says; None if no round has written it yet."""
    stored: Mapping[str, Any] | None = (body.get("status") or {}).get("rebuild")
    if stored is None:
        return None
    return Rebuild(stored["nonce"], stored.get("state", ""), stored.get("message", ""))


def _running(feed: ExchangeFeed, applications: Mapping[str, Application]) -> list[str]:
    names = [f"{feed.name}-{part}" for part in rebuilt_parts(feed)]
    return [name for name in names if name in applications and applications[name].state not in _ENDED]


def _pods(feed: ExchangeFeed, pods: Iterable[K8sObject]) -> list[str]:
    """Return the pods that may write: an application may be stopped, or another number's Job gone, before they are."""
    parts = {component for part in rebuilt_parts(feed) for component in (part, f"{part}-executor")}
    active = (raw["metadata"] for raw in pods if raw.get("status", {}).get("phase") not in {"Succeeded", "Failed"})
    return [
        f"pod {about['name']}"
        for about in active
        if (part := about.get("labels", {}).get(COMPONENT)) in parts
        or (part == REBUILD and about["labels"].get(_JOB_NAME) != rebuild_name(feed))
    ]


def _condition(job: K8sObject | None, kind: str) -> Mapping[str, Any] | None:
    conditions = ((job or {}).get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)
