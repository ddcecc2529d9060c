"""One reconciliation round of a feed: observe, plan, apply, report.

Creation, changes, restarts and drift all use the same round. It is idempotent and writes nothing if nothing differs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from k2.common import logs
from k2.common.validation_errors import InvalidSpec
from k2.operator.api.cluster import Cluster, RequestRejected, ServerError
from k2.operator.api.input_reader import InputReader
from k2.operator.api.pod_status import PodStatusReader
from k2.operator.api.write_cache import FeedKey, WriteCache
from k2.operator.desired import children, with_owner
from k2.operator.desired.naming import RESTART_NONCE, Manifest, topic_object_name
from k2.operator.desired.topics import kafka_topics
from k2.operator.finalizer import Finalizer
from k2.operator.observed import objects, status
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Application, K8sObject, Layer, Observed, Rebuild, Rejection, Shard
from k2.operator.planning import autoscale, conflicts, egress, resharding
from k2.operator.planning import rebuild as rebuilds
from k2.operator.planning.autoscale import Scale
from k2.operator.planning.conflicts import Claim
from k2.operator.planning.inputs import references, with_inputs
from k2.operator.planning.plan import Plan, plan
from k2.operator.planning.watchdog import Recreation, Watchdog
from k2.operator.settings import Settings
from k2.operator.status_writer import StatusWriter
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.feed.shards import AUTO
from k2.schemas.sharding import Counts

log = logs.get("reconciler")

_TOPIC: Final = "KafkaTopic"


@dataclass(frozen=True, slots=True)
class Observation:
    """What one round read: live objects, and what the pods report."""

    objects: FeedObjects
    topics: Mapping[str, K8sObject]  # KafkaTopics by name, wherever they are
    shards: tuple[Shard, ...]
    layers: Mapping[str, Layer]
    rejections: tuple[Rejection, ...]  # of reads

    def with_written(self, written: Iterable[K8sObject]) -> "Observation":
        """Return the observation after writes."""
        answers = list(written)
        topics = {raw["metadata"]["name"]: raw for raw in answers if raw["kind"] == _TOPIC}
        own = [raw for raw in answers if raw["kind"] != _TOPIC]
        return replace(self, objects=self.objects.with_written(own), topics={**self.topics, **topics})


@dataclass(frozen=True, slots=True)
class Applied:
    """The API server's answers to the writes of one round."""

    written: tuple[K8sObject, ...]
    rejections: tuple[Rejection, ...]


class Reconciler:
    """Reconciles feeds. `reconcile` raises `Unavailable` if the API server is unreachable; the caller retries."""

    def __init__(self, cluster: Cluster, settings: Settings, pod_status: PodStatusReader) -> None:
        self._cluster = cluster
        self._settings = settings
        self._pod_status = pod_status
        self._inputs = InputReader(cluster)
        self._watchdog = Watchdog(settings)
        self.cache = WriteCache()
        self._statuses = StatusWriter(cluster, self.cache)
        self.finalizer = Finalizer(cluster, settings, self._statuses, self.cache)
        self.blocked: set[FeedKey] = set()  # feeds that conflict with an older feed
        self.resharding: set[FeedKey] = set()  # feeds whose number of shards is changing
        self._scales: dict[FeedKey, Scale] = {}
        self._processes: dict[FeedKey, int] = {}  # ingest processes of each feed's round
        self._shares: dict[FeedKey, tuple[str, str, int]] = {}  # exchange, egress group, processes of each feed's round

    async def reconcile(self, body: K8sObject, feed_objects: FeedObjects) -> bool:
        """Run one round for one feed. Return whether the API server accepted, or refused for good, all requests."""
        body, now = self.cache.newest(body), datetime.now(UTC)
        try:
            feed = conflicts.parse_feed(body)
        except InvalidSpec as error:
            await self._statuses.update_status(body, status.blocked(body, "InvalidSpec", str(error), now))
            return True
        if conflict := self._conflict(feed, body, feed_objects):
            await self._statuses.update_status(body, status.blocked(body, "TopicConflict", conflict, now))
            return True
        observation = await self._observe(feed, feed_objects)
        rebuild = self._rebuild(feed, body, observation)
        observed = self._observed(feed, observation)
        counts, scale = self._scaled(feed, observation, observed, now)
        desired = await self._desired(feed, body, observation, rebuild, counts)
        planned = plan(feed, desired, observation.objects, observation.topics, observed, self._watchdog, now)
        applied = await self._apply(body, planned)
        report = self._report(feed, body, observation, rebuild, planned, applied, now, counts, scale)
        await self._statuses.update_status(body, report, scale.reason)
        return not any(rejection.transient for rejection in (*observation.rejections, *applied.rejections))

    def sharing(self, key: FeedKey) -> set[FeedKey]:
        """Return the feeds that share a feed's address and have counted its sharers otherwise than it just did."""
        exchange, group, processes = self._shares.get(key, ("", "", 0))
        shares = self._shares.items()
        return {other for other, share in shares if share[:2] == (exchange, group) and share[2] != processes}

    def forget(self, key: FeedKey) -> set[FeedKey]:
        """Forget a feed that is gone: another one of its name has no past. Return who shared its address."""
        self._watchdog.forget(key)
        self.resharding.discard(key)
        self._processes.pop(key, None)
        self._scales.pop(key, None)
        exchange, group, _ = self._shares.pop(key, ("", "", 0))
        return {other for other, share in self._shares.items() if share[:2] == (exchange, group)}

    def _conflict(self, feed: ExchangeFeed, body: K8sObject, feed_objects: FeedObjects) -> str:
        """Return the conflict with an older feed, if any, and remember to retry when another feed is deleted."""
        conflict = conflicts.conflict_message(Claim.of(feed, body), self.cache.claims(feed_objects.feeds))
        key = (feed.metadata.namespace, feed.name)
        if conflict:
            self.blocked.add(key)
        else:
            self.blocked.discard(key)
        return conflict

    async def _observe(self, feed: ExchangeFeed, feed_objects: FeedObjects) -> Observation:
        """Read what the watches do not report: the pods' status, and topics that are not watched."""
        shards, layers = await self._pod_status.read(feed, feed_objects.pods)
        topics: dict[str, K8sObject] = {}
        rejections: list[Rejection] = []
        for manifest in kafka_topics(feed, self._settings):
            metadata = manifest["metadata"]
            live = feed_objects.topic(metadata["name"])
            if live is None or live["metadata"]["namespace"] != metadata["namespace"]:
                # Kafka may be in a namespace that the operator does not watch.
                version, namespace = manifest["apiVersion"], metadata["namespace"]
                try:
                    live = await self._cluster.get(version, _TOPIC, namespace, metadata["name"])
                except (RequestRejected, ServerError) as error:
                    rejections.append(error.rejection)
            if live is not None and live["metadata"]["namespace"] == metadata["namespace"]:
                topics[metadata["name"]] = live
        return Observation(feed_objects, topics, shards, layers, tuple(rejections))

    def _rebuild(self, feed: ExchangeFeed, body: K8sObject, observation: Observation) -> Rebuild:
        applications = {one.name: one for one in self._applications(feed, observation.objects)}
        return rebuilds.rebuild(feed, body, observation.objects, applications)

    def _scaled(
        self, feed: ExchangeFeed, observation: Observation, observed: Observed, now: datetime
    ) -> tuple[Counts, Scale]:
        """Return by which numbers of shards the symbols are to be spread, and how many the load needs."""
        key, live = (feed.metadata.namespace, feed.name), resharding.live_counts(feed, observation.objects)
        measured = autoscale.loads(feed, live, observed.shards)
        scale = self._scales[key] = autoscale.decide(feed, self._scales.get(key), live, measured, now)
        is_applied = feed.autoscale.mode == "apply" or not live
        target = scale.count if is_applied or feed.spec.ingest.shards != AUTO else live[0]
        counts = resharding.next_counts(feed, live, target, observation.objects, observed)
        self._processes[key] = feed.ingest_processes(counts)
        if len(counts) > 1:
            self.resharding.add(key)
        else:
            self.resharding.discard(key)
        return counts, scale

    async def _desired(
        self, feed: ExchangeFeed, body: K8sObject, observation: Observation, rebuild: Rebuild, counts: Counts
    ) -> list[Manifest]:
        """Build the feed's manifests, with its owner and with digests of what its pods read at their start."""
        restart = body["metadata"].get("annotations", {}).get(RESTART_NONCE, "")
        claims, groups = self.cache.claims(observation.objects.feeds), self._settings.egress_groups
        group = egress.group(feed, groups)
        processes = egress.processes(feed, claims, groups, self._processes)
        namespace, live = feed.metadata.namespace, observation.objects
        self._shares[namespace, feed.name] = (feed.spec.exchange, group, processes)
        running = {"rebuilding": rebuild.due, "rebuilds": rebuild.job}
        manifests = children(feed, self._settings, restart=restart, processes=processes, counts=counts, **running)
        used = [references(manifest, feed, self._settings) for manifest in manifests]
        digests = await self._inputs.read(namespace, frozenset().union(*used))
        return [
            with_owner(
                with_inputs(manifest, names, digests, live.find(manifest["kind"], manifest["metadata"]["name"])), body
            )
            for manifest, names in zip(manifests, used, strict=True)
        ]

    async def _apply(self, body: K8sObject, planned: Plan) -> Applied:
        """Carry out a plan. A request that is rejected, or fails in the server, does not stop the others."""
        written: list[K8sObject] = []
        rejections: list[Rejection] = []
        for manifest in planned.applies:
            try:
                written.append(await self._cluster.apply(manifest))
            except (RequestRejected, ServerError) as error:
                rejections.append(error.rejection)
            else:
                self.cache.record(written[-1])
        for recreation in planned.recreations:
            try:
                await self._recreate(body, recreation)
            except (RequestRejected, ServerError) as error:
                rejections.append(error.rejection)
        for live in planned.deletes:
            try:
                await self._cluster.delete(live)
            except (RequestRejected, ServerError) as error:
                rejections.append(error.rejection)
        return Applied(tuple(written), tuple(rejections))

    async def _recreate(self, body: K8sObject, recreation: Recreation) -> None:
        await self._cluster.delete(recreation.live)
        self._watchdog.deleted(recreation)
        await self._cluster.event(body, "Warning", "Recreated", recreation.message)

    def _report(
        self,
        feed: ExchangeFeed,
        body: K8sObject,
        observation: Observation,
        rebuild: Rebuild,
        planned: Plan,
        applied: Applied,
        now: datetime,
        counts: Counts,
        scale: Scale,
    ) -> dict[str, object]:
        """Build the status after the round. Own writes are reported from their answers, not read again."""
        observed = self._observed(feed, observation.with_written(applied.written))
        observed = replace(
            observed,
            rejections=(*observed.rejections, *applied.rejections),
            rebuild=rebuild,
            stuck=planned.stuck,
            rolled_back=planned.rolled_back,
            counts=counts,
            recommended=scale.count if feed.spec.ingest.shards == AUTO else 0,
        )
        return status.status(feed, body, observed, now, managed=bool(self._settings.kafka_cluster))

    def _observed(self, feed: ExchangeFeed, observation: Observation) -> Observed:
        feed_objects, layers = observation.objects, observation.layers
        names = [feed.topic(channel) for channel in feed.channels]
        kafka_topics = {name: observation.topics.get(topic_object_name(name)) for name in names}
        return Observed(
            topics={name: objects.topic(raw) for name, raw in kafka_topics.items() if raw},
            deployments=tuple(objects.deployment(raw) for raw in feed_objects.of_kind("Deployment")),
            pods=objects.unhealthy_pods(feed_objects.pods),
            shards=observation.shards,
            applications={application.name: application for application in self._applications(feed, feed_objects)},
            layers=layers,
            rejections=observation.rejections,
            audit=layers["gold"].audit if "gold" in layers else None,
        )

    def _applications(self, feed: ExchangeFeed, feed_objects: FeedObjects) -> Iterable[Application]:
        messages = objects.termination_messages(feed_objects.pods)
        for raw in feed_objects.of_kind("SparkApplication"):
            yield self._watchdog.with_last_error(feed.metadata.namespace, objects.application(raw), messages)
