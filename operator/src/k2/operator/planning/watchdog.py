"""In-memory state of SparkApplications: last errors, and recreation of those that are stuck.

Not persisted: after a restart of the operator, at worst one more application is recreated, and an error is not reported
until it occurs again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from k2.operator.desired.naming import COMBINED, LAYERS
from k2.operator.observed.objects import Application, K8sObject
from k2.operator.planning.rollout import Action, StuckState, check_stuck
from k2.operator.settings import Settings
from k2.schemas.values import seconds

_NEW: Final = StuckState()

_Key = tuple[str, str]  # namespace, application


@dataclass(frozen=True, slots=True)
class Recreation:
    """A stuck application to delete, so that the next round creates it again; and an Event's message about it."""

    live: K8sObject
    state: StuckState
    message: str


class Watchdog:
    """Decides whether an application that stays in PENDING_RERUN is recreated, at a limited rate."""

    def __init__(self, settings: Settings) -> None:
        self._stuck_after = settings.rerun_stuck_after
        self._cool_down = settings.rerun_cool_down
        self._states: dict[_Key, StuckState] = {}
        self._errors: dict[_Key, str] = {}
        self._reported: dict[_Key, int] = {}  # the attempt whose driver left a termination message
        self._deleted: dict[_Key, K8sObject] = {}

    def with_last_error(self, namespace: str, application: Application, messages: Mapping[str, str]) -> Application:
        """Return the application with its last error, which the Spark operator clears at the next attempt.

        `messages` are the termination messages of drivers that have ended, by application. They say more than an exit
        code.
        """
        key = (namespace, application.name)
        if application.name in messages:
            self._reported[key] = application.attempts
            self._errors[key] = messages[application.name]
        elif application.message and self._reported.get(key, 0) < application.attempts:
            # Of an attempt that left a termination message, the exit code says no more than that.
            self._errors[key] = application.message
        return replace(application, message=self._errors.get(key, ""))

    def forget(self, feed: tuple[str, str]) -> None:
        """Forget the applications of a feed that is gone, given its namespace and name."""
        namespace, name = feed
        keys = [(namespace, f"{name}-{suffix}") for suffix in (*LAYERS, COMBINED)]
        for memory in (self._states, self._errors, self._reported, self._deleted):
            for key in keys:
                memory.pop(key, None)

    def last_live(self, namespace: str, name: str, live: K8sObject | None) -> K8sObject | None:
        """Return the live application, or the one that was deleted for recreation, until it exists again."""
        return live or self._deleted.get((namespace, name))

    def check(self, live: K8sObject, application: Application, now: datetime) -> tuple[Recreation | None, bool]:
        """Check whether the application is stuck.

        Returns:
            The recreation to carry out, if any, and whether the application needs manual intervention.

        """
        key = _key(live)
        if self._deleted.get(key, live)["metadata"]["uid"] != live["metadata"]["uid"]:
            del self._deleted[key]
        limits = [timedelta(seconds=seconds(text)) for text in (self._stuck_after, self._cool_down)]
        action, state, needs_user = check_stuck(application, self._states.get(key, _NEW), now, *limits)
        if action is Action.RECREATE:
            message = (
                f"{application.name} was in PENDING_RERUN for {self._stuck_after}; it was deleted and is recreated"
            )
            return Recreation(live, state, message), False
        self._states[key] = state
        return None, needs_user

    def deleted(self, recreation: Recreation) -> None:
        """Record that an application was deleted."""
        key = _key(recreation.live)
        self._states[key] = recreation.state
        self._deleted[key] = recreation.live


def _key(live: K8sObject) -> _Key:
    return live["metadata"]["namespace"], live["metadata"]["name"]
