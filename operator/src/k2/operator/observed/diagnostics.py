"""Diagnoses of a feed's parts: ready, not ready or unknown, with a CamelCase reason and what to do about it.

No clock here: the time is an argument.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from k2.operator.desired.jobs.rebuild import rebuilt_parts
from k2.operator.desired.naming import COMBINED, REBUILD
from k2.operator.desired.pods import KAFKA_FOLDER
from k2.operator.observed.objects import Application, Observed, Pod, Rejection, Topic
from k2.schemas.feed.model import ExchangeFeed

Status = Literal["True", "False", "Unknown"]

RECONCILED_WITHIN: Final = timedelta(minutes=2)  # by the operator that an object is meant for
STABLE_AFTER: Final = timedelta(minutes=5)  # a driver that runs this long is not in a crash loop
STABLE_AFTER_COMMIT: Final = timedelta(minutes=1)  # nor is one that has committed and runs this long
CRASH_LOOP_ATTEMPTS: Final = 3

# Reasons that resolve without user action.
TRANSIENT_REASONS: Final = frozenset(
    {"Creating", "Starting", "Waiting", "RollingOut", "Rebuilding", "Suspended", "Stopping", "Deleting"}
)

_SPARK, _TOPICS = "sparkapplications", "kafkatopics"
_MONITORS: Final = frozenset({"podmonitors", "servicemonitors"})
_ACTIVE: Final = frozenset({"SUBMITTED", "RUNNING", "SUCCEEDING", "FAILING", "INVALIDATING", "SUSPENDING", "RESUMING"})
_FAILED: Final = frozenset({"FAILED", "FAILING", "SUBMISSION_FAILED"})
_IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CRASH_REASONS: Final = frozenset({"CrashLoopBackOff", "Error", "OOMKilled"})
# The kubelet's messages for a missing Secret, and for a missing key of one.
_SECRET: Final = re.compile(r'secret "([^"]+)" not found|in Secret [^/ ]+/(\S+)')
# What a process says of a file of Kafka's client that a Secret should hold.
_KAFKA_FILE: Final = re.compile(rf"{KAFKA_FOLDER}/([^/ ]+)/([^/ ]+), (?:cannot be read|is empty)")
_MAX_NAMES: Final = 5


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The diagnosis of one part of a feed."""

    status: Status
    reason: str
    message: str

    @property
    def transient(self) -> bool:
        """Whether the problem resolves without user action."""
        return self.status != "True" and self.reason in TRANSIENT_REASONS


def ready(message: str = "", reason: str = "Ready") -> Diagnosis:
    """Return a diagnosis with status True."""
    return Diagnosis("True", reason, message)


def unready(reason: str, message: str) -> Diagnosis:
    """Return a diagnosis with status False."""
    return Diagnosis("False", reason, message)


def unknown(reason: str, message: str) -> Diagnosis:
    """Return a diagnosis with status Unknown."""
    return Diagnosis("Unknown", reason, message)


def summarize(parts: Mapping[str, Diagnosis]) -> Diagnosis:
    """Derive the diagnosis of a whole from its parts.

    Problems that need action come before transient ones. Of several, the first counts: later parts depend on it.
    """
    not_ready = [(name, diagnosis) for name, diagnosis in parts.items() if diagnosis.status != "True"]
    if not not_ready:
        return ready("all parts are running")
    need_action = [(name, diagnosis) for name, diagnosis in not_ready if not diagnosis.transient]
    changing = [(name, diagnosis) for name, diagnosis in not_ready if diagnosis.reason != "Suspended"]
    name, first = (need_action or changing or not_ready)[0]
    others = ", ".join(other for other, _ in not_ready if other != name)
    more = f" (also not ready: {others})" if others else ""
    is_false = any(diagnosis.status == "False" for _, diagnosis in not_ready)
    make = unready if is_false else unknown
    return make(first.reason, f"{name}: {first.message}{more}")


def topic(feed: ExchangeFeed, observed: Observed, now: datetime, *, managed: bool) -> Diagnosis:
    """Diagnose the feed's topics. `managed`: K2 creates it."""
    if observed.conflict:
        return unready("TopicConflict", observed.conflict)
    if not managed:
        return ready("K2 does not manage topics: kafkaCluster is not set", "NotManaged")
    if refusal := rejected(observed.rejections, {_TOPICS}):
        return refusal
    names = [feed.topic(channel) for channel in feed.channels]
    if missing := [name for name in names if name not in observed.topics]:
        return unknown("Creating", f"creating KafkaTopic {', '.join(missing)}")
    diagnoses = [_topic(name, observed.topics[name], now) for name in names]
    return next((each for each in diagnoses if each.status != "True"), diagnoses[0])


def _topic(name: str, kafka_topic: Topic, now: datetime) -> Diagnosis:
    if kafka_topic.ready:
        return ready(f"{name} exists")
    if kafka_topic.ready is False:
        reason = kafka_topic.reason or "no reason given"
        return unready("TopicNotReady", f"Strimzi reports {reason}: {kafka_topic.message}")
    if kafka_topic.changed or now - kafka_topic.created_at < RECONCILED_WITHIN:
        return unknown("Waiting", f"waiting for Strimzi to reconcile KafkaTopic {kafka_topic.name}")
    return unready(
        "NotReconciled",
        f"no Strimzi topic operator has reconciled KafkaTopic {kafka_topic.name} within 2 minutes; set kafkaNamespace "
        "to the namespace that it watches and kafkaCluster to the name of its Kafka",
    )


def unhealthy(observed: Observed, parts: Iterable[str]) -> Diagnosis | None:
    """Diagnose the unhealthy pods of some parts; None if there are none."""
    diagnoses = [_pod(pod) for pod in observed.pods if pod.part in parts]
    return min(diagnoses, key=lambda diagnosis: diagnosis.reason == "PodsNotRunning", default=None)


def _pod(pod: Pod) -> Diagnosis:
    if pod.reason in _IMAGE_REASONS:
        return unready("ImagePullFailed", f"{pod.name}: {pod.message}")
    if pod.reason in _CRASH_REASONS:
        return unready("CrashLoop", f"{pod.name} restarted {pod.restarts} times; {pod.message or pod.reason}")
    if pod.reason == "Unschedulable":
        return unready("Unschedulable", f"{pod.name}: {pod.message}")
    if pod.reason == "CreateContainerConfigError" and (match := _SECRET.search(pod.message)):
        action = f"create the Secret {match[1] or match[2]} in the feed's namespace, or add the key"
        return unready("SecretNotFound", f"{pod.name}: {action}: {pod.message}")
    return unready("PodsNotRunning", f"{pod.name}: {pod.reason}: {pod.message}")


def kafka_secret(message: str) -> Diagnosis | None:
    """Diagnose that a process waits for a Secret of Kafka's client; None if it says nothing of the kind."""
    if match := _KAFKA_FILE.search(message):
        action = f"create the Secret {match[1]} in the feed's namespace with the key {match[2]}"
        return unready("SecretNotFound", f"{action}: {message}")
    return None


def layer(feed: ExchangeFeed, observed: Observed, name: str, application_name: str, now: datetime) -> Diagnosis:
    """Diagnose one layer, which the named application runs."""
    if refusal := rejected(observed.rejections, {_SPARK}):
        return refusal
    application = observed.applications.get(application_name)
    if feed.spec.suspend:
        active = application is not None and application.state in _ACTIVE
        return suspended(int(active), f"{application_name} is stopping")
    if observed.rebuild.due and application_name in {f"{feed.name}-{part}" for part in rebuilt_parts(feed)}:
        return unhealthy(observed, {REBUILD}) or unknown("Rebuilding", observed.rebuild.message)
    if application is None:
        return unknown("Creating", f"creating SparkApplication {application_name}")
    return _running_layer(observed, name, application, now)


def _running_layer(observed: Observed, name: str, application: Application, now: datetime) -> Diagnosis:
    diagnosis = _application(application, observed, name, now)
    if diagnosis is None or diagnosis.transient:  # a driver that cannot start leaves its application SUBMITTED for ever
        diagnosis = unhealthy(observed, _components(application.name, name)) or diagnosis
    if diagnosis is not None:
        return diagnosis
    if cause := observed.rolled_back.get(application.name):
        return unready("RolledBack", cause)
    return _query(observed, name, application.name)


def _components(application: str, layer_name: str) -> set[str]:
    component = COMBINED if application.endswith(f"-{COMBINED}") else layer_name
    return {component, f"{component}-executor"}


def _application(application: Application, observed: Observed, layer_name: str, now: datetime) -> Diagnosis | None:
    """Diagnose the application itself; None if its driver runs."""
    name = application.name
    if name in observed.stuck:
        return unready(
            "PendingRerunStuck",
            f"{name} is in PENDING_RERUN again after it was recreated; check the Spark operator's log and the pod "
            f"{name}-driver, then delete the SparkApplication",
        )
    if not application.state:
        return _not_reconciled(application, now)
    stable_after = STABLE_AFTER_COMMIT if _has_committed(application, observed, layer_name) else STABLE_AFTER
    recent = application.submitted_at is None or now - application.submitted_at < stable_after
    flapping = application.attempts >= CRASH_LOOP_ATTEMPTS and recent
    if application.state in _FAILED or (flapping and application.state in {"RUNNING", "PENDING_RERUN", "SUBMITTED"}):
        error = application.message or "no error was reported; see its driver's log"
        return unready("CrashLoop", f"{name} is {application.state} after {application.attempts} attempts: {error}")
    if application.state == "RUNNING":
        return None
    after = f" after {application.message}" if application.message else ""
    return unknown("Starting", f"{name} is {application.state}{after}")


def _has_committed(application: Application, observed: Observed, name: str) -> bool:
    """Return whether the layer has committed since its driver was submitted."""
    committed = observed.layers[name].committed if name in observed.layers else ""
    if not committed or application.submitted_at is None:
        return False
    return datetime.fromisoformat(committed) > application.submitted_at


def _not_reconciled(application: Application, now: datetime) -> Diagnosis:
    if now - application.created_at < RECONCILED_WITHIN:
        return unknown("Waiting", f"waiting for the Spark operator to reconcile {application.name}")
    return unready(
        "NotReconciled",
        f"no Spark operator has reconciled {application.name} within 2 minutes; add this namespace to "
        "spark.jobNamespaces of its chart",
    )


def _query(observed: Observed, name: str, application: str) -> Diagnosis:
    query = observed.layers.get(name)
    if query is None:
        return unknown("Starting", f"{application} is running and has not reported the state of {name} yet")
    if query.state != "RUNNING" and (missing := kafka_secret(query.message)):
        return missing
    if query.state == "FAILED":
        return unready("QueryFailed", f"{name}: {query.message or 'see the log of its driver'}")
    if query.state != "RUNNING":
        return unknown("Starting", f"{name} is {query.state}" + (f": {query.message}" if query.message else ""))
    if name == "gold" and observed.audit and (hours := observed.audit.incomplete_hours):
        subject = f"{hours} hour{'s' * (hours != 1)} of the last 7 days"
        return unready(
            "AuditFindings",
            f"trades are missing from {subject}, according to the audit of {observed.audit.checked_at}; "
            "run k2 audit for details",
        )
    return ready(f"{application} is running")


def suspended(running: int, message: str) -> Diagnosis:
    """Diagnose a part of a suspended feed. `running`: how much of it is not stopped yet, and why as the message."""
    if running:
        return unknown("Stopping", message)
    return unready("Suspended", "spec.suspend is true; all data is kept")


def rejected(rejections: Iterable[Rejection], resources: Iterable[str]) -> Diagnosis | None:
    """Diagnose the rejected requests for some resources; None if there are none."""
    selected = set(resources)
    own = [rejection for rejection in rejections if rejection.resource in selected]
    if not own:
        return None
    first = min(own, key=lambda rejection: rejection.resource in _MONITORS)  # a feed runs without monitors
    if first.code == 404 and first.resource == _SPARK:
        return unready("SparkOperatorMissing", "the cluster has no SparkApplication CRD; install the Spark operator")
    if first.code == 404 and first.resource == _TOPICS:
        return unready("StrimziMissing", "the cluster has no KafkaTopic CRD of this version; install Strimzi")
    request = f"{first.verb} {first.resource} {first.name}".strip()
    if first.code == 403 and "exceeded quota" in first.message:
        return unready("QuotaExceeded", f"{request}: {first.message}")
    if first.code == 403:
        return unready("Forbidden", f"the operator may not {request}; extend its Role: {first.message}")
    return unready("ApplyFailed", f"{request}: {first.code} {first.message}")


def rejected_ingest(rejections: Iterable[Rejection]) -> Diagnosis | None:
    """Diagnose the rejected requests that are neither of topics nor of applications; None if there are none."""
    resources = {rejection.resource for rejection in rejections} - {_SPARK, _TOPICS}
    return rejected(rejections, resources - _missing_monitors(rejections))


def _missing_monitors(rejections: Iterable[Rejection]) -> set[str]:
    """Return the monitor resources that the cluster does not have: feeds run without the Prometheus operator."""
    return {rejection.resource for rejection in rejections if rejection.resource in _MONITORS and rejection.code == 404}


def shortened(items: Sequence[str]) -> str:
    """Join the first items, and say how many more there are."""
    more = len(items) - _MAX_NAMES
    return "; ".join(items[:_MAX_NAMES]) + (f"; and {more} more" if more > 0 else "")
