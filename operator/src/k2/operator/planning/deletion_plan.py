"""What is to be done next for a feed that was deleted. No clock and no cluster here.

Everything is told by what is there, and nothing is remembered: an operator that is started in the middle goes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from k2.operator.desired.naming import COMPONENT, PURGE
from k2.operator.observed.objects import Raw, moment

STOPPED_FIRST: Final = frozenset({"Deployment", "SparkApplication"})  # whoever writes the data
AGAIN_AFTER: Final = timedelta(minutes=1)  # a purge that failed is tried again
DELETING: Final = "Deleting"
FAILED: Final = "PurgeFailed"


class Action(Enum):
    """What the operator does."""

    STOP = "stop"  # delete what writes the data
    WAIT = "wait"
    PURGE = "purge"  # make the Job
    RETRY = "retry"  # delete the Job: the next round makes it anew
    DROP = "drop"  # delete the topics
    RELEASE = "release"  # done: the feed may go
    ABANDON = "abandon"  # the feed may go, and what is left is told


@dataclass(frozen=True, slots=True)
class Step:
    """The next action; why, in one word; and a sentence for people."""

    action: Action
    reason: str = DELETING
    message: str = ""


@dataclass(frozen=True, slots=True)
class Remains:
    """What is still there of a feed whose data is to be deleted."""

    parts: tuple[str, ...] = ()  # Deployments and SparkApplications
    pods: tuple[str, ...] = ()  # that have not ended, the purge's own left out
    job: Raw | None = None
    topics: tuple[str, ...] = ()  # KafkaTopics
    unreadable: str = ""  # why the topics are not known
    refused: str = ""  # why nothing can be said to be the feed's own


def remains(uid: str, children: Iterable[Raw], pods: Iterable[Raw]) -> Remains:
    """What is left, of live objects. A Job of an older feed of the same name counts as none of this one's."""
    known = list(children)
    jobs = [raw for raw in known if raw["kind"] == "Job"]
    return Remains(
        parts=tuple(f"{raw['kind']} {raw['metadata']['name']}" for raw in known if raw["kind"] in STOPPED_FIRST),
        pods=tuple(raw["metadata"]["name"] for raw in pods if _lives(raw)),
        job=next((raw for raw in jobs if _owned(raw, uid)), jobs[0] if jobs else None),
    )


def step(body: Raw, left: Remains, now: datetime, deadline: timedelta) -> Step:
    """The next action for a feed that bears a deletionTimestamp."""
    if not takes_data(body):
        return Step(Action.RELEASE)
    if left.refused:
        return Step(Action.ABANDON, "PurgeSkipped", f"no data was removed: {left.refused}")
    if overdue(body, now, deadline):
        return Step(Action.ABANDON, "PurgeUnfinished", _unfinished(left, deadline))
    if left.parts:
        return Step(Action.STOP, message=f"{_some(left.parts)} are being deleted")
    if left.pods:
        return Step(Action.WAIT, message=f"waiting for pods to end: {_some(left.pods)}")
    return _purged(body["metadata"]["uid"], left, now)


def takes_data(body: Raw) -> bool:
    """Whether the feed's data is to go with it."""
    return bool(body["spec"].get("deletionPolicy", "Retain") == "Delete")


def overdue(body: Raw, now: datetime, deadline: timedelta) -> bool:
    """Whether the feed must be let go."""
    return now - moment(body["metadata"]["deletionTimestamp"]) >= deadline


def _purged(uid: str, left: Remains, now: datetime) -> Step:
    job = left.job
    if job is None:
        return Step(Action.PURGE, message="tables and checkpoints are being purged")
    name = job["metadata"]["name"]
    if "deletionTimestamp" in job["metadata"]:
        return Step(Action.WAIT, message=f"an older Job {name} is being deleted")
    if not _owned(job, uid):
        return Step(Action.RETRY, message=f"Job {name} is an older feed's")
    if (ended := _condition(job, "Failed")) is not None:
        told = f"Job {name} failed, see its log; it is made anew until the deadline: {ended.get('message', '')}"
        again = now - moment(ended["lastTransitionTime"]) >= AGAIN_AFTER
        return Step(Action.RETRY if again else Action.WAIT, FAILED, told)
    if not purged(left, uid):
        return Step(Action.WAIT, message=f"Job {name} removes tables and checkpoints")
    return _without_topics(left)


def _without_topics(left: Remains) -> Step:
    if left.unreadable:
        return Step(Action.WAIT, FAILED, left.unreadable)
    if left.topics:
        return Step(Action.DROP, message=f"KafkaTopics are being deleted: {_some(left.topics)}")
    return Step(Action.RELEASE)


def purged(left: Remains, uid: str) -> bool:
    """Whether the Job is done."""
    return left.job is not None and _owned(left.job, uid) and _condition(left.job, "Complete") is not None


def alone(body: Raw, feeds: Iterable[Raw]) -> bool:
    """Whether no other feed of the exchange will be left, so that the exchange's tables may go."""
    others = (raw for raw in feeds if raw["metadata"]["uid"] != body["metadata"]["uid"])
    return not any(raw["spec"].get("exchange") == body["spec"]["exchange"] and not _goes(raw) for raw in others)


def _goes(raw: Raw) -> bool:
    return "deletionTimestamp" in raw["metadata"] and takes_data(raw)


def _unfinished(left: Remains, deadline: timedelta) -> str:
    uid = ""
    if left.job is not None:
        uid = next((owner["uid"] for owner in left.job["metadata"].get("ownerReferences", ())), "")
    found = [*left.parts, *(f"pod {name}" for name in left.pods)]
    command = ""
    if not (uid and purged(left, uid)):
        found.append("tables and checkpoints")
        command = "; run `python -m k2.jobs.purge --feed FILE` in the jobs image, with --exchange for the last feed"
    found += [f"KafkaTopic {name}" for name in left.topics]
    found += ["KafkaTopics"] if left.unreadable else []
    minutes = deadline.total_seconds() / 60
    return f"not removed within {minutes:g} minutes: {', '.join(found)}{command}. Delete the rest with kubectl"


def _lives(raw: Raw) -> bool:
    own = raw["metadata"].get("labels", {}).get(COMPONENT) == PURGE
    return not own and raw.get("status", {}).get("phase") not in {"Succeeded", "Failed"}


def _owned(raw: Raw, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in raw["metadata"].get("ownerReferences", ()))


def _condition(raw: Raw, kind: str) -> Mapping[str, Any] | None:
    found = (raw.get("status") or {}).get("conditions") or ()
    return next((about for about in found if about["type"] == kind and about["status"] == "True"), None)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
