"""What is remembered of SparkApplications while this process runs, and how one that is stuck is made anew.

Not kept over a restart: at worst one more application is made anew, and an error is not told until the next.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from k2.operator.api.cluster import Cluster
from k2.operator.observed.objects import Application, Raw
from k2.operator.planning.rollout import Action, Watch, watch
from k2.operator.settings import Settings
from k2.schemas.values import seconds

_NEW: Final = Watch()

_Key = tuple[str, str]  # namespace, application


class Watchdog:
    """Deletes an application that stays in PENDING_RERUN, so that it is made anew; seldom, and never in silence."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._stuck_after = settings.rerun_stuck_after
        self._cool_down = settings.rerun_cool_down
        self._watches: dict[_Key, Watch] = {}
        self._errors: dict[_Key, str] = {}
        self._words: dict[_Key, tuple[int, str]] = {}  # of which attempt, and what its driver said
        self._deleted: dict[_Key, Raw] = {}

    def told(self, namespace: str, found: Application, words: Mapping[str, str]) -> Application:
        """The application with the last error that it gave: the Spark operator forgets it at the next attempt.

        `words` are what drivers that have ended left behind, by application; they say more than an exit code.
        """
        key = (namespace, found.name)
        worded_at, _ = self._words.get(key, (0, ""))
        if found.name in words:
            self._words[key] = found.attempts, words[found.name]
            self._errors[key] = words[found.name]
        elif found.message and worded_at < found.attempts:  # of the attempt that left words it says no more than those
            self._errors[key] = found.message
        return replace(found, message=self._errors.get(key, ""))

    def last(self, namespace: str, name: str, live: Raw | None) -> Raw | None:
        """The application as it is; one that was deleted here is told as it was, until it is there again."""
        return live or self._deleted.get((namespace, name))

    async def look(self, body: Raw, live: Raw, found: Application, now: datetime) -> tuple[bool, bool]:
        """Whether the application was deleted, and whether it needs a person. `body` is its feed."""
        key, uid = (live["metadata"]["namespace"], found.name), live["metadata"]["uid"]
        if self._deleted.get(key, live)["metadata"]["uid"] != uid:
            del self._deleted[key]
        limits = [timedelta(seconds=seconds(text)) for text in (self._stuck_after, self._cool_down)]
        action, memory, hopeless = watch(found, self._watches.get(key, _NEW), now, *limits)
        if action is Action.RECREATE:
            await self._cluster.delete(live)
            self._deleted[key] = live
        self._watches[key] = memory
        if action is not Action.RECREATE:
            return False, hopeless
        text = f"{found.name} was in PENDING_RERUN for {self._stuck_after}; it was deleted and is made anew"
        await self._cluster.event(body, "Warning", "Recreated", text)
        return True, False
