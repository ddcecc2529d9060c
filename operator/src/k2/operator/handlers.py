"""What kopf calls. Watches fill the indices and wake the daemon of the feed that is meant; the daemon reconciles.

The only module that knows kopf.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import kopf

from k2.common import logs
from k2.operator import metrics
from k2.operator.api.cluster import Cluster, Unavailable, connect
from k2.operator.api.object_codec import pack, unpack
from k2.operator.api.pod_status import PodStatusReader
from k2.operator.desired.naming import FEED, GROUP, MANAGER
from k2.operator.reconciler import FeedObjects, Reconciler
from k2.operator.settings import Settings, load

log = logs.get("operator")

Key = tuple[str, str]  # namespace, feed

RESYNC: Final = float(os.environ.get("K2_OPERATOR_RESYNC", "60"))  # seconds
SETTINGS: Final = "K2_OPERATOR_SETTINGS"  # the file that the chart mounts
KIND: Final = "ExchangeFeed"
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
    ("kafka.strimzi.io", "v1", "kafkatopics"),
)
_OURS: Final = {FEED: kopf.PRESENT}
_PATIENCE: Final = 3 * RESYNC
_TAKEN_DOWN_EVERY: Final = 5.0  # seconds; a topic in another namespace wakes nobody


class State:
    """What handlers share: the reconciler, whom to wake, and when a round last ended well."""

    def __init__(self, reconciler: Reconciler, figures: PodStatusReader) -> None:
        self.reconciler = reconciler
        self.figures = figures
        self.wakes: dict[Key, asyncio.Event] = {}
        self.ended = time.monotonic()

    def wake(self, key: Key) -> None:
        """Has a feed reconciled now."""
        if (event := self.wakes.get(key)) is not None:
            event.set()

    def wake_all(self, namespace: str) -> None:
        """Has every feed of a namespace reconciled."""
        for key, event in self.wakes.items():
            if key[0] == namespace:
                event.set()

    def wake_waiting(self) -> None:
        """Has the feeds reconciled that wait for what another one claims: they may have it now."""
        for key in self.reconciler.waiting:
            self.wake(key)


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: Any, **_: Any) -> None:
    """Settings, and the way to the cluster."""
    logs.configure(os.environ.get("K2_LOG_FORMAT", "json"), os.environ.get("K2_LOG_LEVEL", "info"))
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.networking.request_timeout = 30
    settings.queueing.idle_timeout = 1.0  # a task for each object that changed lives so long
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for each event of each child says nothing
    settings.posting.enabled = False  # our own Events tell of transitions, in our own words
    figures = PodStatusReader()
    memo.state = State(Reconciler(Cluster(connect()), _settings(), figures), figures)


@kopf.on.cleanup()
async def stop(memo: Any, **_: Any) -> None:
    """Closes what was opened."""
    await memo.state.figures.close()


@kopf.on.probe(id="reconciled")
def alive(memo: Any, **_: Any) -> str:
    """Fails when feeds are there and none was reconciled for three rounds."""
    state: State = memo.state
    if state.wakes and time.monotonic() - state.ended > _PATIENCE:
        raise kopf.PermanentError(f"no feed was reconciled for {_PATIENCE:.0f} s")
    return "ok"


@kopf.index(*_FEEDS)
def feeds(body: kopf.Body, **_: Any) -> dict[str, Any]:
    """Every feed, by its uid."""
    return {body["metadata"]["uid"]: dict(body)}


@kopf.index("", "v1", "pods", labels=_OURS)
def pods(body: kopf.Body, **_: Any) -> dict[Key, Any]:
    """Every pod of a feed, by the feed."""
    return {_owner(body): dict(body)}


def of_a_feed(body: kopf.Body, **_: Any) -> bool:
    """Whether it is said whose an object is: by its owner reference, or by its label. Anybody may take away either."""
    return bool(_owner(body)[1])


def ours(body: kopf.Body, **_: Any) -> bool:
    """Whether an object is a feed's, or is one that we wrote once and that says no more whose it is."""
    fields = body["metadata"].get("managedFields", ())
    return of_a_feed(body) or any(entry.get("manager") == MANAGER for entry in fields)


def children(body: kopf.Body, **_: Any) -> dict[Key, Any]:
    """Every child of a feed, by the feed; what several share, and what says no more whose it is, by an empty name."""
    return {_owner(body): pack(body)}


def changed(event: Any, body: kopf.Body, memo: Any, **_: Any) -> None:
    """A child is not what it was."""
    if not memo.state.reconciler.write_cache.observe(body, deleted=event["type"] == "DELETED"):
        return
    key = _owner(body)
    if key in memo.state.wakes:
        memo.state.wake(key)
    else:
        memo.state.wake_all(key[0])


for _group, _version, _plural in _CHILDREN:
    kopf.index(_group, _version, _plural, when=ours)(children)
    kopf.on.event(_group, _version, _plural, when=ours)(changed)
kopf.on.event("", "v1", "pods", labels=_OURS)(changed)


@kopf.on.event(*_FEEDS)
def asked(event: Any, body: kopf.Body, memo: Any, **_: Any) -> None:
    """A feed was written; or it is gone, and what it claimed is free."""
    news = memo.state.reconciler.write_cache.observe(body, deleted=event["type"] == "DELETED")
    if event["type"] == "DELETED":
        memo.state.wake_waiting()
    elif news:
        memo.state.wake((body["metadata"]["namespace"], body["metadata"]["name"]))


@kopf.daemon(*_FEEDS, cancellation_timeout=5.0)
async def reconcile(body: kopf.Body, memo: Any, **indices: Any) -> None:
    """Keeps one feed reconciled until it is deleted."""
    state: State = memo.state
    key = (body["metadata"]["namespace"], body["metadata"]["name"])
    wake = state.wakes[key] = asyncio.Event()
    try:
        while True:
            wake.clear()
            pause = await _round(state, dict(body), _feed_objects(key, indices))
            try:
                async with asyncio.timeout(pause):
                    await wake.wait()
            except TimeoutError:
                continue
    finally:
        state.reconciler.waiting.discard(key)
        if state.wakes.get(key) is wake:  # else it is being taken down already
            del state.wakes[key]
            metrics.remove_feed(*key, body["spec"].get("exchange", ""))


def being_deleted(body: kopf.Body, **_: Any) -> bool:
    """Whether a feed is to go. Of the others kopf would note every change in an annotation."""
    return "deletionTimestamp" in body["metadata"]


@kopf.on.delete(*_FEEDS, when=being_deleted)
async def take_down(body: kopf.Body, memo: Any, **indices: Any) -> None:
    """Holds a deleted feed until its data is gone, if that is to go. Called again by an operator that is started."""
    state: State = memo.state
    key = (body["metadata"]["namespace"], body["metadata"]["name"])
    wake = state.wakes[key] = asyncio.Event()
    try:
        while True:
            wake.clear()
            if await _taken_down(state, dict(body), _feed_objects(key, indices)):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TAKEN_DOWN_EVERY):
                    await wake.wait()
    finally:
        if state.wakes.get(key) is wake:
            del state.wakes[key]
            metrics.remove_feed(*key, body["spec"].get("exchange", ""))


async def _taken_down(state: State, body: dict[str, Any], feed_objects: FeedObjects) -> bool:
    name = body["metadata"]["name"]
    try:
        done = await state.reconciler.finalizer.step(body, feed_objects)
    except Unavailable as error:
        log.warning("the API server is away", feed=name, error=str(error), seconds=error.after)
        await asyncio.sleep(error.after)
        return False
    except Exception:
        log.exception("a step of taking a feed down failed", feed=name)
        return state.reconciler.finalizer.overdue(body)
    state.ended = time.monotonic()
    return done


async def _round(state: State, body: dict[str, Any], feed_objects: FeedObjects) -> float:
    """One round; returns in how many seconds the next is due, if nothing happens before."""
    name = body["metadata"]["name"]
    with metrics.RECONCILE_SECONDS.labels(feed=name).time():
        try:
            await state.reconciler.reconcile(body, feed_objects)
        except Unavailable as error:
            metrics.RECONCILE_ERRORS.labels(feed=name).inc()
            log.warning("the API server is away", feed=name, error=str(error), seconds=error.after)
            # Slept here: a child's event must not cut short what the server asked for.
            await asyncio.sleep(error.after)
            return 0.0
        except Exception:
            # A daemon that raises is not called again for its feed; the next round may do better.
            metrics.RECONCILE_ERRORS.labels(feed=name).inc()
            log.exception("a round failed", feed=name)
            return RESYNC
    state.ended = time.monotonic()
    log.debug("reconciled", feed=name)
    return RESYNC


def _settings() -> Settings:
    file = os.environ.get(SETTINGS, "")
    return load(Path(file).read_text("utf-8") if file else None, os.environ)


def _feed_objects(key: Key, indices: dict[str, Any]) -> FeedObjects:
    return FeedObjects(
        tuple(unpack(packed) for packed in indices["children"].get(key, ())),
        tuple(indices["pods"].get(key, ())),
        tuple(raw for found in _values(indices["feeds"]) for raw in found),
        tuple(unpack(packed) for packed in indices["children"].get((key[0], ""), ())),
    )


def _values(index: Any) -> Iterable[Any]:
    return list(index.values())


def _owner(body: kopf.Body) -> Key:
    """The feed of an object; its name is empty if nothing tells."""
    about = body["metadata"]
    owners = [owner["name"] for owner in about.get("ownerReferences", ()) if owner["kind"] == KIND]
    return about["namespace"], owners[0] if owners else about.get("labels", {}).get(FEED, "")
