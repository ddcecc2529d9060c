"""Finalizer of a deleted feed: carries out one step of its deletion plan a round (`planning.deletion_plan`)."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from k2.common import logs
from k2.common.validation_errors import InvalidSpec
from k2.operator.api.cluster import Cluster, RequestRejected, ServerError
from k2.operator.api.write_cache import WriteCache
from k2.operator.desired import with_owner
from k2.operator.desired.config import config_map
from k2.operator.desired.jobs.purge import purge_job
from k2.operator.desired.naming import FEED, MANAGER
from k2.operator.desired.topics import kafka_topics, unused_topics
from k2.operator.observed import status
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import K8sObject
from k2.operator.planning import conflicts, deletion_plan
from k2.operator.planning.conflicts import Claim
from k2.operator.planning.deletion_plan import Action, Step
from k2.operator.settings import Settings
from k2.operator.status_writer import StatusWriter
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.values import seconds

log = logs.get("finalizer")

_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
_TERMINATING: Final = "being terminated"  # in the API server's message if the namespace accepts no new objects


class Finalizer:
    """Deletes a feed's data. `step` raises `Unavailable` if the API server is unreachable; the caller retries."""

    def __init__(self, cluster: Cluster, settings: Settings, statuses: StatusWriter, cache: WriteCache) -> None:
        self._cluster = cluster
        self._settings = settings
        self._statuses = statuses
        self._cache = cache
        self._deadline = timedelta(seconds=seconds(settings.deletion_deadline))

    async def step(self, observed_body: K8sObject, objects: FeedObjects) -> bool:
        """Take one step. Return whether the finalizer may be removed now."""
        metadata = observed_body["metadata"]
        # Handlers get no update of the feed while they run, and its policy may have been changed to release it.
        body = await self._cluster.get(
            observed_body["apiVersion"], observed_body["kind"], metadata["namespace"], metadata["name"]
        )
        if body is None or body["metadata"]["uid"] != metadata["uid"]:
            return True
        now = datetime.now(UTC)
        feed, ownership_error = self._own_feed(body, objects)
        topics, topics_error = await self._topics(feed, body, objects)
        remaining = replace(
            deletion_plan.remaining_objects(metadata["uid"], objects.children, objects.pods),
            topics=tuple(raw["metadata"]["name"] for raw in topics),
            topics_error=topics_error,
            ownership_error=ownership_error,
        )
        step = deletion_plan.step(body, remaining, now, self._deadline)
        if step.action in {Action.REMOVE_FINALIZER, Action.GIVE_UP}:
            await self._release(body, step)
            return True
        try:
            await self._carry_out(step, body, feed, objects, topics)
        except (RequestRejected, ServerError) as error:
            if _TERMINATING in error.rejection.message:
                await self._release(body, Step(Action.GIVE_UP, "PurgeSkipped", f"no data was removed: {error}"))
                return True
            step = Step(step.action, deletion_plan.FAILED, str(error))
        try:
            await self._statuses.update_status(body, status.blocked(body, step.reason, step.message, now))
        except RequestRejected as error:
            log.warning("status update rejected", feed=metadata["name"], error=str(error))
        return False

    def is_overdue(self, body: K8sObject) -> bool:
        """Return whether the feed must be released although its deletion failed."""
        return deletion_plan.is_overdue(body, datetime.now(UTC), self._deadline)

    def _own_feed(self, body: K8sObject, objects: FeedObjects) -> tuple[ExchangeFeed | None, str]:
        """Parse the feed. Return it, and why no data can be attributed to it; empty if all of its data is its own."""
        try:
            feed = conflicts.parse_feed(body)
        except InvalidSpec as error:
            return None, f"the feed is invalid: {error}"
        return feed, conflicts.conflict_message(Claim.of(feed, body), self._cache.claims(objects.feeds))

    async def _carry_out(
        self, step: Step, body: K8sObject, feed: ExchangeFeed | None, objects: FeedObjects, topics: list[K8sObject]
    ) -> None:
        match step.action:
            case Action.STOP:
                await self._delete(raw for raw in objects.children if raw["kind"] in deletion_plan.WRITER_KINDS)
            case Action.RETRY:
                await self._delete(raw for raw in objects.children if raw["kind"] == "Job")
            case Action.DELETE_TOPICS:
                await self._delete(topics)
            case Action.PURGE:
                assert feed is not None
                last = deletion_plan.is_last_of_exchange(body, objects.feeds)
                # A feed that was deleted before its first round has no ConfigMap yet.
                for manifest in (config_map(feed, 1), purge_job(feed, self._settings, exchange=last)):
                    await self._cluster.apply(with_owner(manifest, body))

    async def _delete(self, live: Iterable[K8sObject]) -> None:
        for raw in live:
            if "deletionTimestamp" not in raw["metadata"]:
                await self._cluster.delete(raw)

    async def _topics(
        self, feed: ExchangeFeed | None, body: K8sObject, objects: FeedObjects
    ) -> tuple[list[K8sObject], str]:
        """Read the KafkaTopics to delete: the feed's own, and with the last feed of an exchange the shared ones.

        A topic of a channel that the feed no longer records is its own too, if it has the feed's label.

        Returns:
            The topics, and why they could not be read; empty if they could.

        """
        if feed is None or not deletion_plan.deletes_data(body):
            return [], ""
        last = deletion_plan.is_last_of_exchange(body, objects.feeds)
        topics = []
        for manifest in (*kafka_topics(feed, self._settings), *unused_topics(feed, self._settings)):
            metadata = manifest["metadata"]
            owner = metadata["labels"].get(FEED)
            if owner is None and not last:
                continue
            try:
                live = await self._cluster.get(
                    manifest["apiVersion"], "KafkaTopic", metadata["namespace"], metadata["name"]
                )
            except (RequestRejected, ServerError) as error:
                return [], str(error)
            if live is None:
                continue
            labels = live["metadata"].get("labels", {})
            if labels.get(_MANAGED_BY) == MANAGER and labels.get(FEED) == owner:
                topics.append(live)
        return topics, ""

    async def _release(self, body: K8sObject, step: Step) -> None:
        log.info("removing the finalizer", feed=body["metadata"]["name"], message=step.message)
        if step.action is Action.REMOVE_FINALIZER:
            return
        try:
            await self._cluster.event(body, "Warning", step.reason, step.message)
        except (RequestRejected, ServerError) as error:  # a namespace that is being terminated accepts no Events
            log.warning("Event rejected", feed=body["metadata"]["name"], error=str(error))
