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
from k2.operator.api.cluster import Cluster, Refused
from k2.operator.api.pod_status import Figures
from k2.operator.api.write_cache import Fresh
from k2.operator.desired import children, owned, unwanted
from k2.operator.desired.naming import GROUP, RESTART_NONCE, SPEC_HASH, Manifest, application_names, topic_object_name
from k2.operator.finalizer import Takedown
from k2.operator.observed import objects, status
from k2.operator.observed.objects import Application, Observed, Raw, Refusal, Topic
from k2.operator.planning import conflicts
from k2.operator.planning.conflicts import Claimant
from k2.operator.planning.drift import differs
from k2.operator.planning.rollout import Action, Memory, Seen, step
from k2.operator.planning.watchdog import Watchdog
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("reconciler")

ROLLOUT: Final = f"{GROUP}/rollout"  # what `rollout` remembers of an application
SPECS: Final = f"{GROUP}/specs"  # the specs that it may go back to, by their hash

_APPLICATION: Final = "SparkApplication"
_STOPPED: Final = frozenset({"", "SUSPENDED", "COMPLETED", "FAILED", "SUBMISSION_FAILED"})
_FIGURES_EVERY: Final = 10.0  # seconds between two writes of nothing but new figures


@dataclass(frozen=True, slots=True)
class Family:
    """What the watches last saw of a feed: its children, its pods, and the cluster's other feeds."""

    children: tuple[Raw, ...] = ()
    pods: tuple[Raw, ...] = ()
    feeds: tuple[Raw, ...] = ()
    shared: tuple[Raw, ...] = ()  # of no feed's: the topics that feeds of one exchange share

    def find(self, kind: str, name: str) -> Raw | None:
        """A child."""
        return _named(self.children, kind, name)

    def topic(self, name: str) -> Raw | None:
        """A topic, of the feed or shared."""
        return _named(self.children, "KafkaTopic", name) or _named(self.shared, "KafkaTopic", name)

    def of_kind(self, kind: str) -> list[Raw]:
        """The children of a kind."""
        return [raw for raw in self.children if raw["kind"] == kind]


class Reconciler:
    """Reconciles feeds. `reconcile` raises `Unavailable` when the API server is away: the caller tries again."""

    def __init__(self, cluster: Cluster, settings: Settings, figures: Figures) -> None:
        self._cluster = cluster
        self._settings = settings
        self._figures = figures
        self._watchdog = Watchdog(cluster, settings)
        self.takedown = Takedown(cluster, settings, self._tell)
        self.fresh = Fresh()
        self.waiting: set[tuple[str, str]] = set()  # feeds that want what others claim
        self._written: dict[str, float] = {}

    async def reconcile(self, body: Raw, family: Family) -> None:
        """One round for one feed."""
        body, family = self._newest(body, family)
        now = datetime.now(UTC)
        try:
            feed = ExchangeFeed.from_body({name: body[name] for name in ("apiVersion", "kind", "metadata", "spec")})
        except InvalidSpec as error:
            await self._tell(body, status.invalid(body, "InvalidSpec", str(error), now))
            return
        if conflict := conflicts.refusal(Claimant.of(feed, body), conflicts.claimants(family.feeds)):
            self.waiting.add((feed.metadata.namespace, feed.name))
            await self._tell(body, status.invalid(body, "TopicConflict", conflict, now))
            return
        self.waiting.discard((feed.metadata.namespace, feed.name))
        seen = await self._observe(feed, family)
        restart = body["metadata"].get("annotations", {}).get(RESTART_NONCE, "")
        wanted = [owned(manifest, body) for manifest in children(feed, self._settings, restart=restart)]
        refusals: list[Refusal] = []
        stuck: set[str] = set()
        back: dict[str, str] = {}
        for manifest in wanted:
            try:
                if manifest["kind"] == _APPLICATION:
                    await self._run(feed, body, manifest, family, seen, now, stuck, back)
                else:
                    await self._ensure(manifest, family)
            except Refused as refused:
                refusals.append(refused.refusal)
        for raw in unwanted(wanted, family.children):
            try:
                await self._cluster.delete(raw)
            except Refused as refused:
                refusals.append(refused.refusal)
        if self.fresh.take(feed.metadata.namespace, feed.name):
            # The status tells of what is there now; no watch tells this process of its own writes again.
            body, family = self._newest(body, family)
            seen = await self._observe(feed, family)
        seen = replace(seen, refusals=tuple(refusals), stuck=frozenset(stuck), rolled_back=back)
        await self._tell(body, status.status(feed, body, seen, now, managed=bool(self._settings.kafka_cluster)))

    def _newest(self, body: Raw, family: Family) -> tuple[Raw, Family]:
        """What was seen, with what this process itself wrote since."""
        about = body["metadata"]
        space, name = about["namespace"], about["name"]
        children = self.fresh.over(space, name, family.children)
        newer = replace(family, children=children, shared=self.fresh.over(space, "", family.shared))
        written = self.fresh.find(body["kind"], space, name)
        if written is not None and written["metadata"]["uid"] == about["uid"]:
            body = {**body, "status": written["status"]}
        return body, newer

    async def _ensure(self, manifest: Manifest, family: Family) -> None:
        about = manifest["metadata"]
        if manifest["kind"] != "KafkaTopic":
            live = family.find(manifest["kind"], about["name"])
        elif (live := family.topic(about["name"])) is None or live["metadata"]["namespace"] != about["namespace"]:
            # Where Kafka is in another namespace no watch may see it.
            live = await self._cluster.get(manifest["apiVersion"], "KafkaTopic", about["namespace"], about["name"])
        if live is None or differs(manifest, live):
            self.fresh.wrote(await self._cluster.apply(manifest))

    async def _run(
        self,
        feed: ExchangeFeed,
        body: Raw,
        manifest: Manifest,
        family: Family,
        seen: Observed,
        now: datetime,
        stuck: set[str],
        back: dict[str, str],
    ) -> None:
        name = manifest["metadata"]["name"]
        live, found = family.find(_APPLICATION, name), seen.applications.get(name)
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
        live: Raw | None,
        seen: Observed,
        now: datetime,
        back: dict[str, str],
    ) -> None:
        about = manifest["metadata"]
        name, wanted = about["name"], about["annotations"][SPEC_HASH]
        last = self._watchdog.last(about["namespace"], name, live)
        notes = last["metadata"].get("annotations", {}) if last else {}
        specs: dict[str, Any] = json.loads(notes.get(SPECS, "{}")) | {wanted: manifest["spec"]}
        memory = Memory.parse(json.loads(notes.get(ROLLOUT, "{}")))
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
            self.fresh.wrote(await self._cluster.apply(rolled))

    async def _observe(self, feed: ExchangeFeed, family: Family) -> Observed:
        shards, layers = await self._figures.read(feed, family.pods)
        return Observed(
            topic=await self._topic(feed, family),
            deployments=tuple(objects.deployment(raw) for raw in family.of_kind("Deployment")),
            pods=objects.troubled(family.pods),
            shards=shards,
            applications={found.name: found for found in self._applications(feed, family)},
            layers=layers,
            audit=layers["gold"].audit if "gold" in layers else None,
        )

    async def _topic(self, feed: ExchangeFeed, family: Family) -> Topic | None:
        settings, space = self._settings, self._settings.kafka_namespace
        found = next(iter(family.of_kind("KafkaTopic")), None)
        if settings.kafka_cluster and space not in {"", feed.metadata.namespace}:
            version = f"kafka.strimzi.io/{settings.kafka_topic_version}"
            try:
                # Where Kafka is in another namespace no watch may see it.
                found = await self._cluster.get(version, "KafkaTopic", space, topic_object_name(feed.topic))
            except Refused as refused:
                log.info("a topic cannot be read", feed=feed.name, error=str(refused))  # told when it is applied
        return objects.topic(found) if found else None

    def _applications(self, feed: ExchangeFeed, family: Family) -> Iterable[Application]:
        words = objects.last_words(family.pods)
        for raw in family.of_kind(_APPLICATION):
            yield self._watchdog.told(feed.metadata.namespace, objects.application(raw), words)

    async def _tell(self, body: Raw, new: dict[str, Any]) -> None:
        """Writes a status that says something new, and its Events; new figures only now and then."""
        about, old = body["metadata"], body.get("status")
        metrics.phase(about["namespace"], about["name"], body["spec"].get("exchange", ""), new["phase"])
        if old is not None and all(old.get(name) == value for name, value in new.items()):
            return
        written, now = self._written.get(about["uid"], 0.0), datetime.now(UTC).timestamp()
        if not status.worth_writing(new, old) and now - written < _FIGURES_EVERY:
            return
        self._written[about["uid"]] = now
        before, after = status.before(body), status.before({"status": new})
        named = {"name": about["name"], "namespace": about["namespace"]}
        manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": named, "status": new}
        answer = await self._cluster.apply(manifest, subresource="status")
        if _asks(answer) == _asks(body):  # else the watch's news of it is news of a change too
            self.fresh.wrote(answer)
        for kind, reason, message in status.events(before, after):
            await self._cluster.event(body, kind, reason, message)


def _asks(body: Raw) -> list[Any]:
    """What of a feed's metadata a change of what is wanted of it changes."""
    return [body["metadata"].get(name) for name in ("generation", "annotations", "labels", "deletionTimestamp")]


def _named(raws: Iterable[Raw], kind: str, name: str) -> Raw | None:
    return next((raw for raw in raws if raw["kind"] == kind and raw["metadata"]["name"] == name), None)


def _seen(feed: ExchangeFeed, seen: Observed, name: str, found: Application | None) -> Seen:
    if found is None:
        return Seen("", healthy=False, stopped=True)
    own = [layer for layer, application in application_names(feed).items() if application == name]
    told = [seen.layers[layer].state for layer in own if layer in seen.layers]
    healthy = found.state == "RUNNING" and bool(told) and all(state == "RUNNING" for state in told)
    return Seen(found.spec_hash, healthy, found.state in _STOPPED)
