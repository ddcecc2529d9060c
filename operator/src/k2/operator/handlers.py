"""Kopf handlers. Watches fill the indices and wake the daemon of the feed concerned; the daemon reconciles it.

The only module that imports kopf.
"""

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any, Final

import kopf

from k2.common import logs, tracing
from k2.operator import metrics
from k2.operator.api import election
from k2.operator.api.cluster import Cluster, Unavailable, connect
from k2.operator.api.object_codec import pack
from k2.operator.api.pod_status import PodStatusReader
from k2.operator.api.write_cache import FeedKey
from k2.operator.batch import Batch
from k2.operator.desired.naming import FEED, GROUP, MANAGER
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.reconciler import Reconciler
from k2.operator.settings import InvalidSettings, Settings, load
from k2.schemas.feed.model import KIND

log = logs.get("operator")

RESYNC: Final = float(os.environ.get("K2_OPERATOR_RESYNC", "60"))  # seconds
SETTINGS: Final = "K2_OPERATOR_SETTINGS"  # the variable with the path of the file that the chart mounts


def _settings() -> Settings:
    file = os.environ.get(SETTINGS, "")
    return load(Path(file).read_text("utf-8") if file else None, os.environ)


def _topic_version() -> str:
    """Return the version of Strimzi's API in which topics are written, and watched. Older ones lack `v1`."""
    try:
        return _settings().kafka_topic_version
    except (InvalidSettings, OSError):  # which end the process at its start
        return str(Settings.model_fields["kafka_topic_version"].default)


_FEEDS: Final = (GROUP, "v1alpha1", "exchangefeeds")
_CHILDREN: Final = (
    ("apps", "v1", "deployments"),
    ("", "v1", "services"),
    ("", "v1", "configmaps"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("batch", "v1", "jobs"),
    ("monitoring.coreos.com", "v1", "podmonitors"),
    ("monitoring.coreos.com", "v1", "servicemonitors"),
    ("sparkoperator.k8s.io", "v1beta2", "sparkapplications"),
    ("kafka.strimzi.io", _topic_version(), "kafkatopics"),
)
_FEED_LABEL: Final = {FEED: kopf.PRESENT}
_UNHEALTHY_AFTER: Final = 3 * RESYNC
_RETRY: Final = 10.0  # seconds until the next round after one in which the API server failed requests
_RESHARDING_POLL: Final = 5.0  # seconds; what a pod has taken up causes no event
# Seconds until feeds learn how many others share their address. Of many new feeds, each would wake all others.
_SHARERS_QUIET: Final = 0.5
_SHARERS_LONGEST: Final = 30.0
_DELETION_POLL: Final = 5.0  # seconds; a topic in another namespace causes no event


class State:
    """Shared by all handlers: the reconciler, the work queue, and when a round last ended."""

    def __init__(self, reconciler: Reconciler, pod_status: PodStatusReader) -> None:
        self.reconciler = reconciler
        self.pod_status = pod_status
        self.wakeups: dict[FeedKey, asyncio.Event] = {}
        self.sharers = Batch(_SHARERS_QUIET, _SHARERS_LONGEST, self.enqueue)
        self.last_round = time.monotonic()

    def enqueue(self, key: FeedKey) -> None:
        """Reconcile a feed now."""
        if (wakeup := self.wakeups.get(key)) is not None:
            wakeup.set()

    def enqueue_namespace(self, namespace: str) -> None:
        """Reconcile every feed of a namespace now."""
        for key, wakeup in self.wakeups.items():
            if key[0] == namespace:
                wakeup.set()

    def enqueue_blocked(self) -> None:
        """Reconcile the feeds that conflict with an older feed: it may be gone."""
        for key in self.reconciler.blocked:
            self.enqueue(key)


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: Any, **_: Any) -> None:
    """Configure kopf and connect to the cluster."""
    logs.configure(os.environ.get("K2_LOG_FORMAT", "json"), os.environ.get("K2_LOG_LEVEL", "info"))
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.networking.request_timeout = 30
    settings.queueing.idle_timeout = 1.0  # how long the task of a changed object lives
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # info has a line for each event of each child
    settings.posting.enabled = False  # the operator creates its own Events, for transitions only
    pod_status = PodStatusReader()
    metrics.UP.set(1)
    memo.state = State(Reconciler(Cluster(connect(), election.check), _settings(), pod_status), pod_status)


@kopf.on.cleanup()
async def stop(memo: Any, **_: Any) -> None:
    """Close open connections."""
    await memo.state.pod_status.close()


@kopf.on.probe(id="reconciled")
def healthz(memo: Any, **_: Any) -> str:
    """Fail if there are feeds and no round ended for three resync periods: only then can a restart help.

    An API server or a webhook that fails ends the round, which conditions, logs and metrics report.
    """
    state: State = memo.state
    if state.wakeups and time.monotonic() - state.last_round > _UNHEALTHY_AFTER:
        raise kopf.PermanentError(f"no round of any feed ended for {_UNHEALTHY_AFTER:.0f} s")
    return "ok"


@kopf.index(*_FEEDS)
def feeds(body: kopf.Body, **_: Any) -> dict[str, Any]:
    """Index feeds by uid."""
    return {body["metadata"]["uid"]: dict(body)}


@kopf.index("", "v1", "pods", labels=_FEED_LABEL)
def pods(body: kopf.Body, **_: Any) -> dict[FeedKey, Any]:
    """Index pods by feed."""
    return {_feed_of(body): dict(body)}


def is_managed(body: kopf.Body, **_: Any) -> bool:
    """Return whether an object belongs to a feed, or was applied by this operator.

    The owner reference or the label names the feed. A user may remove either or both; then the managed fields tell.
    """
    fields = body["metadata"].get("managedFields", ())
    return bool(_feed_of(body)[1]) or any(entry.get("manager") == MANAGER for entry in fields)


def children(body: kopf.Body, **_: Any) -> dict[FeedKey, Any]:
    """Index children by feed; shared objects, and those whose feed is unknown, by an empty name."""
    return {_feed_of(body): pack(body)}


def on_child_event(event: Any, body: kopf.Body, memo: Any, **_: Any) -> None:
    """Reconcile the feed of a changed child, unless the change was the operator's own write."""
    state: State = memo.state
    if not state.reconciler.cache.observe(body, deleted=event["type"] == "DELETED"):
        return
    key = _feed_of(body)
    if key in state.wakeups:
        state.enqueue(key)
    else:
        state.enqueue_namespace(key[0])


for _group, _version, _plural in _CHILDREN:
    kopf.index(_group, _version, _plural, when=is_managed)(children)
    kopf.on.event(_group, _version, _plural, when=is_managed)(on_child_event)
kopf.on.event("", "v1", "pods", labels=_FEED_LABEL)(on_child_event)


@kopf.on.event(*_FEEDS)
async def on_feed_event(event: Any, body: kopf.Body, memo: Any, **_: Any) -> None:
    """Reconcile a changed feed; when a feed is gone, reconcile those that conflicted with it.

    Asynchronous, because kopf runs other functions in threads, and a batch belongs to the event loop.
    """
    state: State = memo.state
    changed = state.reconciler.cache.observe(body, deleted=event["type"] == "DELETED")
    if event["type"] == "DELETED":
        state.enqueue_blocked()
        state.sharers.add(state.reconciler.forget((body["metadata"]["namespace"], body["metadata"]["name"])))
    elif changed:
        state.enqueue((body["metadata"]["namespace"], body["metadata"]["name"]))


@kopf.daemon(*_FEEDS, cancellation_timeout=5.0)
async def reconcile(body: kopf.Body, memo: Any, **indices: Any) -> None:
    """Keep one feed reconciled until it is deleted."""
    state: State = memo.state
    key = (body["metadata"]["namespace"], body["metadata"]["name"])
    wakeup = state.wakeups[key] = asyncio.Event()
    try:
        while True:
            wakeup.clear()
            pause = await _run_round(state, dict(body), state.reconciler.cache.feed_objects(key, indices))
            state.sharers.add(state.reconciler.sharing(key))
            try:
                async with asyncio.timeout(pause):
                    await wakeup.wait()
            except TimeoutError:
                continue
    finally:
        state.reconciler.blocked.discard(key)
        if state.wakeups.get(key) is wakeup:  # else the delete handler has replaced it already
            del state.wakeups[key]
            metrics.remove_feed(*key, body["spec"].get("exchange", ""))


def is_being_deleted(body: kopf.Body, **_: Any) -> bool:
    """Return whether a feed is being deleted. Otherwise kopf would annotate every feed with its last state."""
    return "deletionTimestamp" in body["metadata"]


@kopf.on.delete(*_FEEDS, when=is_being_deleted)
async def on_delete(body: kopf.Body, memo: Any, **indices: Any) -> None:
    """Keep a deleted feed until its data is deleted, if it is to be. Runs again after a restart of the operator."""
    state: State = memo.state
    key = (body["metadata"]["namespace"], body["metadata"]["name"])
    wakeup = state.wakeups[key] = asyncio.Event()
    try:
        while True:
            wakeup.clear()
            if await _run_deletion_step(state, dict(body), state.reconciler.cache.feed_objects(key, indices)):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DELETION_POLL):
                    await wakeup.wait()
    finally:
        if state.wakeups.get(key) is wakeup:
            del state.wakeups[key]
            metrics.remove_feed(*key, body["spec"].get("exchange", ""))


async def _run_deletion_step(state: State, body: dict[str, Any], feed_objects: FeedObjects) -> bool:
    """Run one step of a deletion; return whether the finalizer may be removed."""
    name, finalizer = body["metadata"]["name"], state.reconciler.finalizer
    try:
        return await finalizer.step(body, feed_objects)
    except Unavailable as error:
        log.warning("API server unavailable", feed=name, error=str(error), seconds=error.after)
        await asyncio.sleep(error.after)
        return False
    except Exception:
        log.exception("deletion step failed", feed=name)
        return finalizer.is_overdue(body)
    finally:
        state.last_round = time.monotonic()


async def _run_round(state: State, body: dict[str, Any], feed_objects: FeedObjects) -> float:
    """Run one round; return the seconds until the next, if no event arrives before."""
    name = body["metadata"]["name"]
    with metrics.RECONCILE_SECONDS.labels(feed=name).time():
        try:
            with tracing.span("reconcile", {"k2.feed": name, "k8s.namespace.name": body["metadata"]["namespace"]}):
                complete = await state.reconciler.reconcile(body, feed_objects)
        except Unavailable as error:
            metrics.RECONCILE_ERRORS.labels(feed=name).inc()
            log.warning("API server unavailable", feed=name, error=str(error), seconds=error.after)
            # Sleep here: a child's event must not shorten the Retry-After that the server requested.
            await asyncio.sleep(error.after)
            return 0.0
        except Exception:
            # A daemon that raises is not restarted for its feed; the next round may succeed.
            metrics.RECONCILE_ERRORS.labels(feed=name).inc()
            log.exception("reconciliation failed", feed=name)
            return RESYNC
        finally:
            state.last_round = time.monotonic()
    if not complete:
        metrics.RECONCILE_ERRORS.labels(feed=name).inc()
        return min(RESYNC, _RETRY)
    log.debug("reconciled", feed=name)
    is_resharding = (body["metadata"]["namespace"], name) in state.reconciler.resharding
    return min(RESYNC, _RESHARDING_POLL) if is_resharding else RESYNC


def _feed_of(body: kopf.Body) -> FeedKey:
    """Return the namespace and feed of an object; the feed is empty if neither owner nor label names one."""
    metadata = body["metadata"]
    owners = [owner["name"] for owner in metadata.get("ownerReferences", ()) if owner["kind"] == KIND]
    return metadata["namespace"], owners[0] if owners else metadata.get("labels", {}).get(FEED, "")
