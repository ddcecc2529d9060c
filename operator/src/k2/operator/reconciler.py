"""One round of reconciling one feed: what should exist is made so, what was seen is told in the status.

The same round serves creation, change, restart and drift. It may run at any time, any number of times, and writes
nothing when nothing is to be changed.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from k2.common import logs
from k2.common.validation_errors import InvalidSpec
from k2.operator import metrics
from k2.operator.api.cluster import Cluster, RequestRejected
from k2.operator.api.pod_status import PodStatusReader
from k2.operator.api.write_cache import WriteCache
from k2.operator.desired import children, obsolete, with_owner
from k2.operator.desired.naming import GROUP, RESTART_NONCE, SPEC_HASH, Manifest, application_names, topic_object_name
from k2.operator.finalizer import Finalizer
from k2.operator.observed import objects, status
from k2.operator.observed.objects import Application, K8sObject, Observed, Rejection, Topic
from k2.operator.planning import conflicts
from k2.operator.planning.conflicts import Claim
from k2.operator.planning.drift import differs
from k2.operator.planning.rollout import Action, ApplicationState, RolloutState, step
from k2.operator.planning.watchdog import Watchdog
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("reconciler")

ROLLOUT: Final = f"{GROUP}/rollout"  # what `rollout` remembers of an application
SPECS: Final = f"{GROUP}/specs"  # the specs that it may go back to, by their hash

_APPLICATION: Final = "SparkApplication"
_STOPPED: Final = frozenset({"", "SUSPENDED", "COMPLETED", "FAILED", "SUBMISSION_FAILED"})
_METRICS_INTERVAL: Final = 10.0  # seconds between two writes of nothing but new figures


@dataclass(frozen=True, slots=True)
class FeedObjects:
    """What the watches last saw of a feed: its children, its pods, and the cluster's other feeds."""

    children: tuple[K8sObject, ...] = ()
    pods: tuple[K8sObject, ...] = ()
    feeds: tuple[K8sObject, ...] = ()
    shared: tuple[K8sObject, ...] = ()  # of no feed's: the topics that feeds of one exchange share

    def find(self, kind: str, name: str) -> K8sObject | None:
        """A child."""
        return _named(self.children, kind, name)

    def topic(self, name: str) -> K8sObject | None:
        """A topic, of the feed or shared."""
        return _named(self.children, "KafkaTopic", name) or _named(self.shared, "KafkaTopic", name)

    def of_kind(self, kind: str) -> list[K8sObject]:
        """The children of a kind."""
        return [raw for raw in self.children if raw["kind"] == kind]


class Reconciler:
    """Reconciles feeds. `reconcile` raises `Unavailable` when the API server is away: the caller tries again."""

    def __init__(self, cluster: Cluster, settings: Settings, figures: PodStatusReader) -> None:
        self._cluster = cluster
        self._settings = settings
        self._pod_status = figures
        self._watchdog = Watchdog(cluster, settings)
        self.finalizer = Finalizer(cluster, settings, self._tell)
        self.write_cache = WriteCache()
        self.waiting: set[tuple[str, str]] = set()  # feeds that want what others claim
        self._written: dict[str, float] = {}

    async def reconcile(self, body: K8sObject, feed_objects: FeedObjects) -> None:
        """One round for one feed."""
        body, feed_objects = self._newest(body, feed_objects)
        now = datetime.now(UTC)
        try:
            feed = ExchangeFeed.from_body({name: body[name] for name in ("apiVersion", "kind", "metadata", "spec")})
        except InvalidSpec as error:
            await self._tell(body, status.invalid(body, "InvalidSpec", str(error), now))
            return
        if conflict := conflicts.conflict_message(Claim.of(feed, body), conflicts.claims(feed_objects.feeds)):
            self.waiting.add((feed.metadata.namespace, feed.name))
            await self._tell(body, status.invalid(body, "TopicConflict", conflict, now))
            return
        self.waiting.discard((feed.metadata.namespace, feed.name))
        seen = await self._observe(feed, feed_objects)
        restart = body["metadata"].get("annotations", {}).get(RESTART_NONCE, "")
        wanted = [with_owner(manifest, body) for manifest in children(feed, self._settings, restart=restart)]
        rejections: list[Rejection] = []
        stuck: set[str] = set()
        back: dict[str, str] = {}
        for manifest in wanted:
            try:
                if manifest["kind"] == _APPLICATION:
                    await self._run(feed, body, manifest, feed_objects, seen, now, stuck, back)
                else:
                    await self._ensure(manifest, feed_objects)
            except RequestRejected as refused:
                rejections.append(refused.rejection)
        for raw in obsolete(wanted, feed_objects.children):
            try:
                await self._cluster.delete(raw)
            except RequestRejected as refused:
                rejections.append(refused.rejection)
        if self.write_cache.pop_dirty(feed.metadata.namespace, feed.name):
            # The status tells of what is there now; no watch tells this process of its own writes again.
            body, feed_objects = self._newest(body, feed_objects)
            seen = await self._observe(feed, feed_objects)
        seen = replace(seen, rejections=tuple(rejections), stuck=frozenset(stuck), rolled_back=back)
        await self._tell(body, status.status(feed, body, seen, now, managed=bool(self._settings.kafka_cluster)))

    def _newest(self, body: K8sObject, feed_objects: FeedObjects) -> tuple[K8sObject, FeedObjects]:
        """What was seen, with what this process itself wrote since."""
        about = body["metadata"]
        space, name = about["namespace"], about["name"]
        children = self.write_cache.overlay(space, name, feed_objects.children)
        newer = replace(
            feed_objects, children=children, shared=self.write_cache.overlay(space, "", feed_objects.shared)
        )
        written = self.write_cache.find(body["kind"], space, name)
        if written is not None and written["metadata"]["uid"] == about["uid"]:
            body = {**body, "status": written["status"]}
        return body, newer

    async def _ensure(self, manifest: Manifest, feed_objects: FeedObjects) -> None:
        about = manifest["metadata"]
        if manifest["kind"] != "KafkaTopic":
            live = feed_objects.find(manifest["kind"], about["name"])
        elif (live := feed_objects.topic(about["name"])) is None or live["metadata"]["namespace"] != about["namespace"]:
            # Where Kafka is in another namespace no watch may see it.
            live = await self._cluster.get(manifest["apiVersion"], "KafkaTopic", about["namespace"], about["name"])
        if live is None or differs(manifest, live):
            self.write_cache.record(await self._cluster.apply(manifest))

    async def _run(
        self,
        feed: ExchangeFeed,
        body: K8sObject,
        manifest: Manifest,
        feed_objects: FeedObjects,
        seen: Observed,
        now: datetime,
        stuck: set[str],
        back: dict[str, str],
    ) -> None:
        name = manifest["metadata"]["name"]
        live, found = feed_objects.find(_APPLICATION, name), seen.applications.get(name)
        if live is not None and found is not None:
            deleted, hopeless = await self._watchdog.look(body, live, found, now)
            if hopeless:
                stuck.add(name)
            if deleted:
                return
        await self._roll_out(feed, manifest, live, seen, now, back)

    async def _roll_out(
        self,
        feed: ExchangeFeed,
        manifest: Manifest,
        live: K8sObject | None,
        seen: Observed,
        now: datetime,
        back: dict[str, str],
    ) -> None:
        about = manifest["metadata"]
        name, wanted = about["name"], about["annotations"][SPEC_HASH]
        last = self._watchdog.last(about["namespace"], name, live)
        notes = last["metadata"].get("annotations", {}) if last else {}
        specs: dict[str, Any] = json.loads(notes.get(SPECS, "{}")) | {wanted: manifest["spec"]}
        memory = RolloutState.parse(json.loads(notes.get(ROLLOUT, "{}")))
        found = seen.applications.get(name)
        taken = step(wanted, _seen(feed, seen, name, found), memory, now)
        if taken.memory.refused:
            back[name] = taken.message
        held = {Action.STOP: found.spec_hash if found else wanted, Action.ROLL_BACK: taken.memory.stable}.get(
            taken.action, wanted if taken.action is Action.APPLY else taken.memory.trying or wanted
        )
        spec: Manifest = specs[held] if held in specs else manifest["spec"]
        kept = {key: specs[key] for key in sorted({held, taken.memory.stable}) if key in specs}
        suspend = feed.spec.suspend or taken.action is Action.STOP
        annotations = {
            **about["annotations"],
            SPEC_HASH: held,
            ROLLOUT: json.dumps(taken.memory.document(), sort_keys=True),
            SPECS: json.dumps(kept, sort_keys=True, separators=(",", ":")),
        }
        rolled = {
            **manifest,
            "metadata": {**about, "annotations": annotations},
            "spec": {**spec, "suspend": suspend},
        }
        if live is None or differs(rolled, live):
            self.write_cache.record(await self._cluster.apply(rolled))

    async def _observe(self, feed: ExchangeFeed, feed_objects: FeedObjects) -> Observed:
        shards, layers = await self._pod_status.read(feed, feed_objects.pods)
        return Observed(
            topic=await self._topic(feed, feed_objects),
            deployments=tuple(objects.deployment(raw) for raw in feed_objects.of_kind("Deployment")),
            pods=objects.unhealthy_pods(feed_objects.pods),
            shards=shards,
            applications={found.name: found for found in self._applications(feed, feed_objects)},
            layers=layers,
            audit=layers["gold"].audit if "gold" in layers else None,
        )

    async def _topic(self, feed: ExchangeFeed, feed_objects: FeedObjects) -> Topic | None:
        settings, space = self._settings, self._settings.kafka_namespace
        found = next(iter(feed_objects.of_kind("KafkaTopic")), None)
        if settings.kafka_cluster and space not in {"", feed.metadata.namespace}:
            version = f"kafka.strimzi.io/{settings.kafka_topic_version}"
            try:
                # Where Kafka is in another namespace no watch may see it.
                found = await self._cluster.get(version, "KafkaTopic", space, topic_object_name(feed.topic))
            except RequestRejected as refused:
                log.info("a topic cannot be read", feed=feed.name, error=str(refused))  # told when it is applied
        return objects.topic(found) if found else None

    def _applications(self, feed: ExchangeFeed, feed_objects: FeedObjects) -> Iterable[Application]:
        words = objects.termination_messages(feed_objects.pods)
        for raw in feed_objects.of_kind(_APPLICATION):
            yield self._watchdog.told(feed.metadata.namespace, objects.application(raw), words)

    async def _tell(self, body: K8sObject, new: dict[str, Any]) -> None:
        """Writes a status that says something new, and its Events; new figures only now and then."""
        about, old = body["metadata"], body.get("status")
        metrics.set_phase(about["namespace"], about["name"], body["spec"].get("exchange", ""), new["phase"])
        if old is not None and all(old.get(name) == value for name, value in new.items()):
            return
        written, now = self._written.get(about["uid"], 0.0), datetime.now(UTC).timestamp()
        if not status.is_significant(new, old) and now - written < _METRICS_INTERVAL:
            return
        self._written[about["uid"]] = now
        before, after = status.before(body), status.before({"status": new})
        named = {"name": about["name"], "namespace": about["namespace"]}
        manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": named, "status": new}
        answer = await self._cluster.apply(manifest, subresource="status")
        if _asks(answer) == _asks(body):  # else the watch's news of it is news of a change too
            self.write_cache.record(answer)
        for kind, reason, message in status.events(before, after):
            await self._cluster.event(body, kind, reason, message)


def _asks(body: K8sObject) -> list[Any]:
    """What of a feed's metadata a change of what is wanted of it changes."""
    return [body["metadata"].get(name) for name in ("generation", "annotations", "labels", "deletionTimestamp")]


def _named(raws: Iterable[K8sObject], kind: str, name: str) -> K8sObject | None:
    return next((raw for raw in raws if raw["kind"] == kind and raw["metadata"]["name"] == name), None)


def _seen(feed: ExchangeFeed, seen: Observed, name: str, found: Application | None) -> ApplicationState:
    if found is None:
        return ApplicationState("", healthy=False, stopped=True)
    own = [layer for layer, application in application_names(feed).items() if application == name]
    told = [seen.layers[layer].state for layer in own if layer in seen.layers]
    healthy = found.state == "RUNNING" and bool(told) and all(state == "RUNNING" for state in told)
    return ApplicationState(found.spec_hash, healthy, found.state in _STOPPED)
