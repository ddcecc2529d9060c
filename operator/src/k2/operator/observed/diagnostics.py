"""What is said of each part of a feed: ready, not ready, or not known yet; why, in one word; and what to do about it.

No clock here: the time is an argument.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from k2.operator.desired.naming import COMBINED, INGEST
from k2.operator.observed.objects import Application, Observed, Pod, Refusal, Topic
from k2.schemas.feed.model import ExchangeFeed

Status = Literal["True", "False", "Unknown"]

PICKED_UP_WITHIN: Final = timedelta(minutes=2)
STEADY_AFTER: Final = timedelta(minutes=5)  # a driver that runs so long is not in a crash loop
COMMITTING_AFTER: Final = timedelta(minutes=1)  # nor is one that has committed, and runs so long
CRASHES: Final = 3

# Reasons that need nobody's hand.
PASSING: Final = frozenset({"Creating", "Starting", "Waiting", "RollingOut", "Suspended", "Stopping", "Deleting"})

_SPARK, _TOPICS = "sparkapplications", "kafkatopics"
_MONITORS: Final = frozenset({"podmonitors", "servicemonitors"})
_RUNS: Final = frozenset({"SUBMITTED", "RUNNING", "SUCCEEDING", "FAILING", "INVALIDATING", "SUSPENDING", "RESUMING"})
_FAILED: Final = frozenset({"FAILED", "FAILING", "SUBMISSION_FAILED"})
_IMAGES: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CRASHED: Final = frozenset({"CrashLoopBackOff", "Error", "OOMKilled"})
# The kubelet's words for a Secret that is not there, and for one without the key.
_SECRET: Final = re.compile(r'secret "([^"]+)" not found|in Secret [^/ ]+/(\S+)')
_MOST_NAMES: Final = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one part."""

    status: Status
    reason: str
    message: str

    @property
    def passing(self) -> bool:
        """Whether this will pass without anybody's hand."""
        return self.status != "True" and self.reason in PASSING


def ready(message: str = "", reason: str = "Ready") -> Verdict:
    """All is well."""
    return Verdict("True", reason, message)


def unready(reason: str, message: str) -> Verdict:
    """All is not well."""
    return Verdict("False", reason, message)


def unknown(reason: str, message: str) -> Verdict:
    """Nobody can say yet."""
    return Verdict("Unknown", reason, message)


def topic(feed: ExchangeFeed, seen: Observed, now: datetime, *, managed: bool) -> Verdict:
    """What is said of the feed's topic. `managed`: whether K2 makes it."""
    if seen.conflict:
        return unready("TopicConflict", seen.conflict)
    if not managed:
        return ready("topics are not made by K2: kafkaCluster is not set", "NotManaged")
    if refused := _refused(seen.refusals, {_TOPICS}):
        return refused
    if seen.topic is None:
        return unknown("Creating", f"KafkaTopic {feed.topic} is being made")
    return _topic(feed, seen.topic, now)


def _topic(feed: ExchangeFeed, found: Topic, now: datetime) -> Verdict:
    if found.ready:
        return ready(f"{feed.topic} is there")
    if found.ready is False:
        return unready("TopicNotReady", f"Strimzi says {found.reason or 'nothing more'}: {found.message}")
    if found.changed or now - found.created_at < PICKED_UP_WITHIN:
        return unknown("Waiting", f"Strimzi has said nothing of KafkaTopic {found.name} yet")
    return unready(
        "NotPickedUp",
        f"no Strimzi topic operator has touched KafkaTopic {found.name} for 2 minutes; set kafkaNamespace to the "
        "namespace that it watches and kafkaCluster to its Kafka's name",
    )


def ingest(feed: ExchangeFeed, seen: Observed) -> Verdict:
    """What is said of the feed's connections."""
    others = {refusal.resource for refusal in seen.refusals} - {_SPARK, _TOPICS} - _missing_monitors(seen.refusals)
    if refused := _refused(seen.refusals, others):
        return refused
    if feed.spec.suspend:
        return _suspended(sum(found.ready for found in seen.deployments), "connections are closing")
    if not seen.deployments:
        return unknown("Creating", "Deployments are being made")
    if trouble := next((found for found in seen.deployments if found.trouble), None):
        reason = "QuotaExceeded" if "exceeded quota" in trouble.trouble else "PodsRefused"
        return unready(reason, f"{trouble.name}: {trouble.trouble}")
    return _pods(seen, {INGEST}) or _connections(seen)


def _connections(seen: Observed) -> Verdict:
    wanted = sum(found.wanted for found in seen.deployments)
    running = sum(found.ready for found in seen.deployments)
    connected = sum(found.connected for found in seen.shards)
    if waiting := sum(found.waiting for found in seen.shards):
        why = next((f": {found.message}" for found in seen.shards if found.message and found.waiting), "")
        return unready("KafkaRefuses", f"Kafka does not take {waiting} records; they are kept and sent again{why}")
    why = next((found.message for found in seen.shards if found.message and not found.connected), "")
    if why:
        return unready("NotConnected", f"{connected} of {wanted} connected; {why}")
    if running < wanted or not all(found.current for found in seen.deployments):
        return unknown("Starting", f"{running} of {wanted} pods are ready")
    refused = [f"{symbol}: {words}" for found in seen.shards for symbol, words in found.refused]
    if refused:
        return unready(
            "SymbolsRefused", f"correct or remove what the exchange refuses; the others flow. {_some(refused)}"
        )
    if seen.shards and connected < wanted:
        return unready("NotConnected", f"{connected} of {wanted} connected")
    return ready(f"{wanted} of {wanted} connected")


def _pods(seen: Observed, parts: Iterable[str]) -> Verdict | None:
    """What is said of the pods of some parts; None if none is in trouble."""
    own = [_pod(pod) for pod in seen.pods if pod.part in parts]
    return min(own, key=lambda said: said.reason == "PodsRefused", default=None)


def _pod(pod: Pod) -> Verdict:
    if pod.reason in _IMAGES:
        return unready("ImagePullFailed", f"{pod.name}: {pod.message}")
    if pod.reason in _CRASHED:
        return unready("CrashLoop", f"{pod.name} ended {pod.restarts} times; {pod.message or pod.reason}")
    if pod.reason == "Unschedulable":
        return unready("Unschedulable", f"{pod.name}: {pod.message}")
    if pod.reason == "CreateContainerConfigError" and (found := _SECRET.search(pod.message)):
        what = f"{pod.name} needs what its namespace lacks; make the Secret {found[1] or found[2]}, or add the key"
        return unready("SecretNotFound", f"{what}: {pod.message}")
    return unready("PodsRefused", f"{pod.name}: {pod.reason}: {pod.message}")


def layer(feed: ExchangeFeed, seen: Observed, name: str, application: str, now: datetime) -> Verdict:
    """What is said of one layer, which this application runs."""
    if refused := _refused(seen.refusals, {_SPARK}):
        return refused
    found = seen.applications.get(application)
    if feed.spec.suspend:
        running = found is not None and found.state in _RUNS
        return _suspended(int(running), f"{application} is stopping")
    if found is None:
        return unknown("Creating", f"SparkApplication {application} is being made")
    said = _application(found, seen, name, now)
    if said is None or said.passing:  # a driver that cannot start leaves its application SUBMITTED for ever
        said = _pods(seen, _parts(found.name, name)) or said
    if said is not None:
        return said
    if why := seen.rolled_back.get(application):
        return unready("RolledBack", why)
    return _query(seen, name, application)


def _parts(application: str, layer_name: str) -> set[str]:
    part = COMBINED if application.endswith(f"-{COMBINED}") else layer_name
    return {part, f"{part}-executor"}


def _application(found: Application, seen: Observed, name: str, now: datetime) -> Verdict | None:
    """What is said of the application itself; None if its driver runs."""
    if found.name in seen.stuck:
        return unready(
            "PendingRerunStuck",
            f"{found.name} is in PENDING_RERUN and was made anew once already; look at the Spark operator's log and "
            f"for pods named {found.name}-driver, then delete the SparkApplication",
        )
    if not found.state:
        return _untouched(found, now)
    steady = COMMITTING_AFTER if _committed(found, seen, name) else STEADY_AFTER
    young = found.submitted_at is None or now - found.submitted_at < steady
    flapping = found.attempts >= CRASHES and young
    if found.state in _FAILED or (flapping and found.state in {"RUNNING", "PENDING_RERUN", "SUBMITTED"}):
        words = found.message or "it gave no error; see its driver's log"
        return unready("CrashLoop", f"{found.name} is {found.state} after {found.attempts} attempts: {words}")
    if found.state == "RUNNING":
        return None
    after = f" after {found.message}" if found.message else ""
    return unknown("Starting", f"{found.name} is {found.state}{after}")


def _committed(found: Application, seen: Observed, name: str) -> bool:
    """Whether the layer has committed since its driver was submitted."""
    committed = seen.layers[name].committed if name in seen.layers else ""
    return bool(committed) and found.submitted_at is not None and datetime.fromisoformat(committed) > found.submitted_at


def _untouched(found: Application, now: datetime) -> Verdict:
    if now - found.created_at < PICKED_UP_WITHIN:
        return unknown("Waiting", f"no Spark operator has touched {found.name} yet")
    return unready(
        "NotPickedUp",
        f"no Spark operator has touched {found.name} for 2 minutes; add this namespace to spark.jobNamespaces of "
        "its chart",
    )


def _query(seen: Observed, name: str, application: str) -> Verdict:
    query = seen.layers.get(name)
    if query is None:
        return unknown("Starting", f"{application} runs and has said nothing of {name} yet")
    if query.state == "FAILED":
        return unready("QueryFailed", f"{name}: {query.message or 'see the log of its driver'}")
    if query.state != "RUNNING":
        return unknown("Starting", f"{name} is {query.state}" + (f": {query.message}" if query.message else ""))
    if name == "gold" and seen.audit and (hours := seen.audit.incomplete_hours):
        lack = f"{hours} hour{'s' * (hours != 1)} of the last 7 days lack{'s' * (hours == 1)} trades"
        return unready("AuditFindings", f"{lack}, says the audit of {seen.audit.checked_at}; k2 audit tells which")
    return ready(f"{application} runs")


def _suspended(running: int, message: str) -> Verdict:
    if running:
        return unknown("Stopping", message)
    return unready("Suspended", "spec.suspend is true; all data is kept")


def _refused(refusals: Iterable[Refusal], resources: Iterable[str]) -> Verdict | None:
    wanted = set(resources)
    own = [refusal for refusal in refusals if refusal.resource in wanted]
    if not own:
        return None
    found = min(own, key=lambda refusal: refusal.resource in _MONITORS)  # a feed runs without those
    if found.code == 404 and found.resource == _SPARK:
        return unready("SparkOperatorMissing", "the cluster knows no SparkApplication; install the Spark operator")
    if found.code == 404 and found.resource == _TOPICS:
        return unready("StrimziMissing", "the cluster knows no KafkaTopic of this version; install Strimzi")
    where = f"{found.verb} {found.resource} {found.name}".strip()
    if found.code == 403 and "exceeded quota" in found.message:
        return unready("QuotaExceeded", f"{where}: {found.message}")
    if found.code == 403:
        return unready("Forbidden", f"the operator may not {where}; let its Role allow it: {found.message}")
    return unready("ApplyFailed", f"{where}: {found.code} {found.message}")


def _missing_monitors(refusals: Iterable[Refusal]) -> set[str]:
    """A cluster without Prometheus' operator runs feeds all the same."""
    return {refusal.resource for refusal in refusals if refusal.resource in _MONITORS and refusal.code == 404}


def _some(words: list[str]) -> str:
    more = len(words) - _MOST_NAMES
    return "; ".join(words[:_MOST_NAMES]) + (f"; and {more} more" if more > 0 else "")
