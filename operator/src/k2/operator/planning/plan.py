"""Plan of one reconciliation round: the objects to apply, recreate and delete."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from k2.operator.desired.naming import GROUP, SPEC_HASH, Manifest, application_names
from k2.operator.desired.ownership import obsolete
from k2.operator.desired.topics import with_replicas_of
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Application, K8sObject, Observed
from k2.operator.planning import replicas, succession
from k2.operator.planning.drift import differs
from k2.operator.planning.rollout import Action, ApplicationState, RolloutState, Step, step
from k2.operator.planning.watchdog import Recreation, Watchdog
from k2.schemas.feed.model import KIND, ExchangeFeed

ROLLOUT: Final = f"{GROUP}/rollout"  # annotation: the rollout state of an application
SPECS: Final = f"{GROUP}/specs"  # annotation: the specs that it may be rolled back to, by hash

_APPLICATION: Final = "SparkApplication"
_TOPIC: Final = "KafkaTopic"
_DEPLOYMENT: Final = "Deployment"
_JOB: Final = "Job"
_STOPPED: Final = frozenset({"", "SUSPENDED", "COMPLETED", "FAILED", "SUBMISSION_FAILED"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write in one round, and what planning learned about applications."""

    applies: tuple[Manifest, ...] = ()  # dependencies first
    recreations: tuple[Recreation, ...] = ()
    deletes: tuple[K8sObject, ...] = ()
    stuck: frozenset[str] = frozenset()  # applications that need manual intervention
    rolled_back: Mapping[str, str] = field(default_factory=dict)  # applications whose new spec was rolled back, and why


def plan(
    feed: ExchangeFeed,
    desired: Iterable[Manifest],
    objects: FeedObjects,
    topics: Mapping[str, K8sObject],
    observed: Observed,
    watchdog: Watchdog,
    now: datetime,
) -> Plan:
    """Compare desired manifests with live objects and return what to write.

    Args:
        feed: The validated feed.
        desired: Its manifests, dependencies first, with owners.
        objects: The live objects of the feed.
        topics: The live KafkaTopics by name, which may be in another namespace.
        observed: The parsed state of the feed. Topics whose read was rejected are not applied.
        watchdog: The state of applications that are stuck.
        now: The time of this round.

    """
    manifests = list(desired)
    unreadable = {rejection.name for rejection in observed.rejections if rejection.resource == "kafkatopics"}
    applies: list[Manifest] = []
    recreations: list[Recreation] = []
    foreign: list[K8sObject] = []
    stuck: set[str] = set()
    rolled_back: dict[str, str] = {}
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind == _TOPIC and name in unreadable:
            continue
        live = topics.get(name) if kind == _TOPIC else objects.find(kind, name)
        target = with_replicas_of(manifest, live) if kind == _TOPIC and live is not None else manifest
        if kind == _APPLICATION and live is not None and not _has_owner_of(manifest, live):
            foreign.append(live)
            continue
        if kind == _APPLICATION:
            recreation, needs_user = _check(watchdog, live, observed.applications.get(name), now)
            if needs_user:
                stuck.add(name)
            if recreation is not None:
                recreations.append(recreation)
                continue
            last = watchdog.last_live(manifest["metadata"]["namespace"], name, live)
            target, message = rolled_out(feed, manifest, last, observed, now)
            if message:
                rolled_back[name] = message
        # A Job's template is immutable: one that exists goes on, also with the image of an earlier release.
        if live is not None and (kind == _JOB or not differs(target, live)):
            continue
        if kind == _DEPLOYMENT and live is not None and replicas.waits(target, live, objects, applies):
            continue
        applies.append(target)
    unneeded = obsolete(manifests, objects.children)
    waited_for = succession.predecessors(manifests, unneeded, objects, observed)
    deletes = [*(raw for raw in unneeded if raw["metadata"]["name"] not in waited_for), *foreign]
    return Plan(tuple(applies), tuple(recreations), tuple(deletes), frozenset(stuck), rolled_back)


def _has_owner_of(manifest: Manifest, live: K8sObject) -> bool:
    """Whether a live application belongs to the feed of a manifest, or to none.

    One of a deleted feed of the same name has its attempts, errors and rollout: it is deleted and created again.
    """
    owners = {owner["uid"] for owner in live["metadata"].get("ownerReferences", ()) if owner["kind"] == KIND}
    own = {owner["uid"] for owner in manifest["metadata"].get("ownerReferences", ())}
    return not owners or bool(owners & own)


def _check(
    watchdog: Watchdog, live: K8sObject | None, application: Application | None, now: datetime
) -> tuple[Recreation | None, bool]:
    if live is None or application is None:
        return None, False
    return watchdog.check(live, application, now)


def rolled_out(
    feed: ExchangeFeed, manifest: Manifest, last: K8sObject | None, observed: Observed, now: datetime
) -> tuple[Manifest, str]:
    """Take the next step of an application's rollout.

    Args:
        feed: The validated feed.
        manifest: The desired SparkApplication.
        last: The live application, or the last one if it was deleted for recreation. Its annotations hold the state.
        observed: The parsed state of the feed.
        now: The time of this round.

    Returns:
        The manifest to apply, and why the desired spec was rolled back; empty if it was not.

    """
    metadata = manifest["metadata"]
    name, desired_hash = metadata["name"], metadata["annotations"][SPEC_HASH]
    annotations = last["metadata"].get("annotations", {}) if last else {}
    specs: dict[str, Any] = json.loads(annotations.get(SPECS, "{}")) | {desired_hash: manifest["spec"]}
    state = RolloutState.parse(json.loads(annotations.get(ROLLOUT, "{}")))
    application = observed.applications.get(name)
    is_suspended = manifest["spec"]["suspend"]
    running = _application_state(feed, observed, name, application)
    taken = step(desired_hash, running, state, now, suspended=is_suspended)
    spec_hash = _spec_to_run(taken, desired_hash, application)
    spec: Manifest = specs[spec_hash] if spec_hash in specs else manifest["spec"]
    retained = {key: specs[key] for key in sorted({spec_hash, taken.state.stable}) if key in specs}
    rollout_annotations = {
        **metadata["annotations"],
        SPEC_HASH: spec_hash,
        ROLLOUT: json.dumps(taken.state.document(), sort_keys=True),
        SPECS: json.dumps(retained, sort_keys=True, separators=(",", ":")),
    }
    suspend = is_suspended or taken.action is Action.STOP
    target = {
        **manifest,
        "metadata": {**metadata, "annotations": rollout_annotations},
        "spec": {**spec, "suspend": suspend},
    }
    return target, taken.message if taken.state.refused else ""


def _spec_to_run(taken: Step, desired_hash: str, application: Application | None) -> str:
    match taken.action:
        case Action.STOP:
            return application.spec_hash if application else desired_hash
        case Action.ROLL_BACK:
            return taken.state.stable
        case Action.APPLY:
            return desired_hash
    return taken.state.trying or desired_hash


def _application_state(
    feed: ExchangeFeed, observed: Observed, name: str, application: Application | None
) -> ApplicationState:
    if application is None:
        return ApplicationState("", healthy=False, stopped=True)
    layers = [layer for layer, runner in application_names(feed).items() if runner == name]
    states = [observed.layers[layer].state for layer in layers if layer in observed.layers]
    healthy = application.state == "RUNNING" and bool(states) and all(state == "RUNNING" for state in states)
    return ApplicationState(application.spec_hash, healthy, application.state in _STOPPED)
