"""Plan the deletion of a feed: the next step, from what still exists. No clock and no cluster here.

Every decision follows from observed objects and nothing is remembered, so a restarted operator continues where the last
one stopped.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from k2.operator.desired.naming import COMPONENT, PURGE
from k2.operator.observed.objects import K8sObject, parse_time

WRITER_KINDS: Final = frozenset({"Deployment", "SparkApplication"})  # deleted first: they write the data
RETRY_AFTER: Final = timedelta(minutes=1)  # after a failed purge
DELETING: Final = "Deleting"
FAILED: Final = "PurgeFailed"


class Action(Enum):
    """What the operator does."""

    STOP = "stop"  # delete what writes the data
    WAIT = "wait"
    PURGE = "purge"  # create the purge Job
    RETRY = "retry"  # delete the Job; the next round creates it again
    DELETE_TOPICS = "delete topics"
    REMOVE_FINALIZER = "remove finalizer"  # done
    GIVE_UP = "give up"  # remove the finalizer and report what remains


@dataclass(frozen=True, slots=True)
class Step:
    """The next action, with a CamelCase reason and a message."""

    action: Action
    reason: str = DELETING
    message: str = ""


@dataclass(frozen=True, slots=True)
class RemainingObjects:
    """What still exists of a feed whose data is to be deleted."""

    parts: tuple[str, ...] = ()  # Deployments and SparkApplications
    pods: tuple[str, ...] = ()  # that have not terminated, except the purge's
    job: K8sObject | None = None
    topics: tuple[str, ...] = ()  # KafkaTopics
    topics_error: str = ""  # why the topics could not be read
    ownership_error: str = ""  # why no data can be attributed to this feed


def remaining_objects(uid: str, children: Iterable[K8sObject], pods: Iterable[K8sObject]) -> RemainingObjects:
    """Summarize live objects. A Job of this feed is preferred to one of an older feed of the same name."""
    objects = list(children)
    jobs = [raw for raw in objects if raw["kind"] == "Job"]
    return RemainingObjects(
        parts=tuple(f"{raw['kind']} {raw['metadata']['name']}" for raw in objects if raw["kind"] in WRITER_KINDS),
        pods=tuple(raw["metadata"]["name"] for raw in pods if _is_active(raw)),
        job=next((raw for raw in jobs if _is_owned_by(raw, uid)), jobs[0] if jobs else None),
    )


def step(body: K8sObject, remaining: RemainingObjects, now: datetime, deadline: timedelta) -> Step:
    """Return the next step for a feed that has a deletionTimestamp."""
    if not deletes_data(body):
        return Step(Action.REMOVE_FINALIZER)
    if remaining.ownership_error:
        return Step(Action.GIVE_UP, "PurgeSkipped", f"no data was removed: {remaining.ownership_error}")
    if is_overdue(body, now, deadline):
        return Step(Action.GIVE_UP, "PurgeIncomplete", _incomplete(remaining, deadline))
    if remaining.parts:
        return Step(Action.STOP, message=f"deleting {_shortened(remaining.parts)}")
    if remaining.pods:
        return Step(Action.WAIT, message=f"waiting for pods to terminate: {_shortened(remaining.pods)}")
    return _purge_step(body["metadata"]["uid"], remaining, now)


def deletes_data(body: K8sObject) -> bool:
    """Return whether the feed's data is deleted with it."""
    return bool(body["spec"].get("deletionPolicy", "Retain") == "Delete")


def is_overdue(body: K8sObject, now: datetime, deadline: timedelta) -> bool:
    """Return whether the deletion deadline has passed."""
    return now - parse_time(body["metadata"]["deletionTimestamp"]) >= deadline


def _purge_step(uid: str, remaining: RemainingObjects, now: datetime) -> Step:
    job = remaining.job
    if job is None:
        return Step(Action.PURGE, message="purging tables and checkpoints")
    name = job["metadata"]["name"]
    if "deletionTimestamp" in job["metadata"]:
        return Step(Action.WAIT, message=f"Job {name} of an earlier attempt is being deleted")
    if not _is_owned_by(job, uid):
        return Step(Action.RETRY, message=f"Job {name} belongs to an older feed")
    if (failure := _condition(job, "Failed")) is not None:
        message = f"Job {name} failed, see its log; it is retried until the deadline: {failure.get('message', '')}"
        retry = now - parse_time(failure["lastTransitionTime"]) >= RETRY_AFTER
        return Step(Action.RETRY if retry else Action.WAIT, FAILED, message)
    if not is_purged(remaining, uid):
        return Step(Action.WAIT, message=f"Job {name} is removing tables and checkpoints")
    return _topics_step(remaining)


def _topics_step(remaining: RemainingObjects) -> Step:
    if remaining.topics_error:
        return Step(Action.WAIT, FAILED, remaining.topics_error)
    if remaining.topics:
        return Step(Action.DELETE_TOPICS, message=f"deleting KafkaTopics: {_shortened(remaining.topics)}")
    return Step(Action.REMOVE_FINALIZER)


def is_purged(remaining: RemainingObjects, uid: str) -> bool:
    """Return whether the purge Job has completed."""
    job = remaining.job
    return job is not None and _is_owned_by(job, uid) and _condition(job, "Complete") is not None


def is_last_of_exchange(body: K8sObject, feeds: Iterable[K8sObject]) -> bool:
    """Return whether no other feed of the exchange remains, so that the exchange's tables may be deleted."""
    others = (raw for raw in feeds if raw["metadata"]["uid"] != body["metadata"]["uid"])
    return not any(raw["spec"].get("exchange") == body["spec"]["exchange"] and not _is_going(raw) for raw in others)


def _is_going(raw: K8sObject) -> bool:
    return "deletionTimestamp" in raw["metadata"] and deletes_data(raw)


def _incomplete(remaining: RemainingObjects, deadline: timedelta) -> str:
    uid = ""
    if remaining.job is not None:
        uid = next((owner["uid"] for owner in remaining.job["metadata"].get("ownerReferences", ())), "")
    names = [*remaining.parts, *(f"pod {name}" for name in remaining.pods)]
    command = ""
    if not (uid and is_purged(remaining, uid)):
        names.append("tables and checkpoints")
        command = (
            "; run `python -m k2.jobs.purge --feed FILE` in the jobs image, with --exchange for an exchange's last feed"
        )
    names += [f"KafkaTopic {name}" for name in remaining.topics]
    names += ["KafkaTopics"] if remaining.topics_error else []
    minutes = deadline.total_seconds() / 60
    return f"not removed within {minutes:g} minutes: {', '.join(names)}{command}. Delete the rest with kubectl"


def _is_active(pod: K8sObject) -> bool:
    of_purge = pod["metadata"].get("labels", {}).get(COMPONENT) == PURGE
    return not of_purge and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}


def _is_owned_by(raw: K8sObject, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in raw["metadata"].get("ownerReferences", ()))


def _condition(raw: K8sObject, kind: str) -> Mapping[str, Any] | None:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
