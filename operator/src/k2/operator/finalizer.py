"""Takes a deleted feed down: one step a round, each decided by what is there (`k2.operator.planning.deletion_plan`)."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from k2.common import logs
from k2.common.validation_errors import InvalidSpec
from k2.operator.api.cluster import Cluster, Refused
from k2.operator.desired import owned
from k2.operator.desired.config import config_map
from k2.operator.desired.naming import FEED, MANAGER, Manifest
from k2.operator.desired.purge import purge_job
from k2.operator.desired.topics import kafka_topics
from k2.operator.observed import status
from k2.operator.observed.objects import Raw
from k2.operator.planning import conflicts, deletion_plan
from k2.operator.planning.conflicts import Claimant
from k2.operator.planning.deletion_plan import Action, Step
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.values import seconds

log = logs.get("takedown")

_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
_ENDING: Final = "being terminated"  # the API server's words when it creates nothing more in a namespace

Tell = Callable[[Raw, dict[str, Any]], Awaitable[None]]


class Kin(Protocol):
    """What the watches last saw: the feed's children and pods, and the cluster's feeds."""

    @property
    def children(self) -> tuple[Raw, ...]: ...  # noqa: D102
    @property
    def pods(self) -> tuple[Raw, ...]: ...  # noqa: D102
    @property
    def feeds(self) -> tuple[Raw, ...]: ...  # noqa: D102


class Takedown:
    """Takes feeds down. `step` raises `Unavailable` when the API server is away: the caller tries again."""

    def __init__(self, cluster: Cluster, settings: Settings, tell: Tell) -> None:
        self._cluster = cluster
        self._settings = settings
        self._tell = tell
        self._deadline = timedelta(seconds=seconds(settings.deletion_deadline))

    async def step(self, seen: Raw, family: Kin) -> bool:
        """One step; returns whether the feed may go now."""
        about = seen["metadata"]
        # A watch tells nothing of the feed while it is held: its policy may have been changed to let it go.
        body = await self._cluster.get(seen["apiVersion"], seen["kind"], about["namespace"], about["name"])
        if body is None or body["metadata"]["uid"] != about["uid"]:
            return True
        now = datetime.now(UTC)
        feed, refused = _judged(body, family)
        left = replace(deletion_plan.remains(about["uid"], family.children, family.pods), refused=refused)
        topics: list[Raw] = []
        try:
            topics = (
                await self._topics(feed, body, family) if feed is not None and deletion_plan.takes_data(body) else []
            )
            left = replace(left, topics=tuple(raw["metadata"]["name"] for raw in topics))
        except Refused as error:
            left = replace(left, unreadable=str(error))
        step = deletion_plan.step(body, left, now, self._deadline)
        if step.action in {Action.RELEASE, Action.ABANDON}:
            await self._release(body, step)
            return True
        try:
            await self._do(step, body, feed, family, topics)
        except Refused as error:
            if _ENDING in error.refusal.message:
                await self._release(body, Step(Action.ABANDON, "PurgeSkipped", "no data was removed: " + str(error)))
                return True
            step = Step(step.action, deletion_plan.FAILED, str(error))
        try:
            await self._tell(body, status.invalid(body, step.reason, step.message, now))
        except Refused as error:
            log.warning("the status was refused", feed=about["name"], error=str(error))
        return False

    def overdue(self, body: Raw) -> bool:
        """Whether a feed must be let go, whatever is in the way."""
        return deletion_plan.overdue(body, datetime.now(UTC), self._deadline)

    async def _do(self, step: Step, body: Raw, feed: ExchangeFeed | None, family: Kin, topics: list[Raw]) -> None:
        match step.action:
            case Action.STOP:
                await self._delete(raw for raw in family.children if raw["kind"] in deletion_plan.STOPPED_FIRST)
            case Action.RETRY:
                await self._delete(raw for raw in family.children if raw["kind"] == "Job")
            case Action.DROP:
                await self._delete(topics)
            case Action.PURGE:
                assert feed is not None
                for manifest in self._purge(feed, body, family):
                    await self._cluster.apply(owned(manifest, body))

    def _purge(self, feed: ExchangeFeed, body: Raw, family: Kin) -> tuple[Manifest, ...]:
        # A feed that was deleted before its first round has no file yet.
        return config_map(feed), purge_job(feed, self._settings, exchange=deletion_plan.alone(body, family.feeds))

    async def _delete(self, live: Any) -> None:
        for raw in live:
            if "deletionTimestamp" not in raw["metadata"]:
                await self._cluster.delete(raw)

    async def _topics(self, feed: ExchangeFeed, body: Raw, family: Kin) -> list[Raw]:
        """The KafkaTopics that go with the feed: its own, and with the last feed of an exchange what they shared."""
        last, found = deletion_plan.alone(body, family.feeds), []
        for manifest in kafka_topics(feed, self._settings):
            about = manifest["metadata"]
            if FEED not in about["labels"] and not last:
                continue
            live = await self._cluster.get(manifest["apiVersion"], "KafkaTopic", about["namespace"], about["name"])
            if live is not None and live["metadata"].get("labels", {}).get(_MANAGED_BY) == MANAGER:
                found.append(live)
        return found

    async def _release(self, body: Raw, step: Step) -> None:
        log.info("a feed is let go", feed=body["metadata"]["name"], message=step.message)
        if step.action is Action.RELEASE:
            return
        try:
            await self._cluster.event(body, "Warning", step.reason, step.message)
        except Refused as error:  # in a namespace that ends nothing is created any more
            log.warning("the Event about it was refused", feed=body["metadata"]["name"], error=str(error))


def _judged(body: Raw, family: Kin) -> tuple[ExchangeFeed | None, str]:
    """The feed, and why it cannot be told which data is its own."""
    try:
        feed = ExchangeFeed.from_body({name: body[name] for name in ("apiVersion", "kind", "metadata", "spec")})
    except InvalidSpec as error:
        return None, f"the feed cannot be read: {error}"
    return feed, conflicts.refusal(Claimant.of(feed, body), conflicts.claimants(family.feeds))
