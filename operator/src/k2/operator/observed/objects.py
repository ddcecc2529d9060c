"""What was seen in the cluster, as frozen values. Parsers take raw API objects, which may lack any field."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from k2.operator.desired.naming import COMPONENT, INGEST, SPEC_HASH
from k2.schemas.states import CircuitState
from k2.schemas.status import JobsStatus, LayerStatus, ShardStatus

K8sObject = Mapping[str, Any]

# How the Spark operator labels the pods that it makes.
_ROLE: Final = "spark-role"
_APPLICATION: Final = "sparkoperator.k8s.io/app-name"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One shard's Deployment. `trouble` is why its pods cannot be made, in Kubernetes' words."""

    name: str
    desired: int
    ready: int
    current: bool  # the controller has seen the newest spec
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod that does not run as it should: the reason that Kubernetes gives, and its words."""

    name: str
    reason: str
    message: str
    restarts: int
    part: str = INGEST  # as its label says: ingest, a layer, layers, or those with -executor


@dataclass(frozen=True, slots=True)
class Application:
    """One SparkApplication. An empty state means that no Spark operator has touched it."""

    name: str
    created_at: datetime
    state: str = ""
    message: str = ""
    submitted_at: datetime | None = None
    attempts: int = 0
    spec_hash: str = ""


@dataclass(frozen=True, slots=True)
class Topic:
    """One KafkaTopic; `ready` is None while Strimzi has said nothing."""

    name: str
    created_at: datetime
    ready: bool | None = None
    reason: str = ""
    message: str = ""
    changed: bool = False  # Strimzi has said something, of an older spec


@dataclass(frozen=True, slots=True)
class Shard:
    """What one ingest pod says of itself on /status."""

    shard: str
    connected: bool
    message: str = ""
    rate: float = 0.0
    last_message: str = ""  # RFC 3339; empty before the first
    reconnects: int = 0
    open_gaps: int = 0
    repaired_gaps: int = 0
    dead_letters: int = 0
    refused: tuple[tuple[str, str], ...] = ()  # symbols, and the exchange's words
    waiting: int = 0  # records that Kafka does not take: those that it refused, or all where the circuit is open


@dataclass(frozen=True, slots=True)
class Audit:
    """What the newest audit found for the feed's symbols."""

    incomplete_hours: int = 0
    checked_at: str = ""  # RFC 3339


@dataclass(frozen=True, slots=True)
class Layer:
    """What a driver says of one layer on /status."""

    state: str
    message: str = ""
    rows: int = 0
    committed: str = ""  # RFC 3339; empty before the first
    freshness: float | None = None  # seconds
    dead_letters: int = 0
    audit: Audit | None = None  # Gold tells it, once an audit was made


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request of the operator's that the API server refused."""

    verb: str
    resource: str
    name: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that is known of one feed's parts."""

    topic: Topic | None = None
    deployments: tuple[Deployment, ...] = ()
    pods: tuple[Pod, ...] = ()
    shards: tuple[Shard, ...] = ()
    applications: Mapping[str, Application] = field(default_factory=dict)  # by name
    layers: Mapping[str, Layer] = field(default_factory=dict)
    rejections: tuple[Rejection, ...] = ()
    audit: Audit | None = None
    conflict: str = ""  # why another feed is preferred to this one
    stuck: frozenset[str] = frozenset()  # applications that were made anew once and are stuck again
    rolled_back: Mapping[str, str] = field(default_factory=dict)  # applications whose new spec was taken back, and why


def deployment(raw: K8sObject) -> Deployment:
    """A Deployment."""
    status, about = raw.get("status", {}), raw["metadata"]
    failures = [entry for entry in status.get("conditions", ()) if entry.get("type") == "ReplicaFailure"]
    trouble = next((str(entry.get("message", "")) for entry in failures if entry.get("status") == "True"), "")
    current = status.get("observedGeneration", 0) >= about.get("generation", 0)
    desired = raw.get("spec", {}).get("replicas", 1)
    return Deployment(about["name"], desired, status.get("readyReplicas", 0), current, trouble)


def unhealthy_pods(raws: Iterable[K8sObject]) -> tuple[Pod, ...]:
    """The pods that wait for something or that end again and again."""
    found = ((raw["metadata"], *_waiting(raw)) for raw in raws)
    return tuple(Pod(about["name"], why, text, count, _part(about)) for about, why, text, count in found if why)


def termination_messages(raws: Iterable[K8sObject]) -> dict[str, str]:
    """What drivers that have ended left behind, by their application."""
    return {
        raw["metadata"]["labels"][_APPLICATION]: words
        for raw in raws
        if raw["metadata"].get("labels", {}).get(_ROLE) == "driver" and _APPLICATION in raw["metadata"]["labels"]
        for about in raw.get("status", {}).get("containerStatuses", ())
        if (words := " ".join(about.get("state", {}).get("terminated", {}).get("message", "").split()))
    }


def _part(about: K8sObject) -> str:
    return str(about.get("labels", {}).get(COMPONENT, INGEST))


def _waiting(raw: K8sObject) -> tuple[str, str, int]:
    status = raw.get("status", {})
    for about in status.get("conditions", ()):
        if about.get("type") == "PodScheduled" and about.get("status") == "False":
            return about.get("reason", "Unschedulable"), about.get("message", ""), 0
    for about in status.get("containerStatuses", ()):
        waiting = about.get("state", {}).get("waiting", {})
        ended = about.get("lastState", {}).get("terminated", {})
        restarts = about.get("restartCount", 0)
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            said = ended.get("message") or _exit(ended) or waiting.get("message", "")
            return waiting["reason"], said, restarts
    return "", "", 0


def _exit(ended: K8sObject) -> str:
    return f"{ended.get('reason', 'Error')}, exit code {ended['exitCode']}" if "exitCode" in ended else ""


def application(raw: K8sObject) -> Application:
    """A SparkApplication of `sparkoperator.k8s.io`."""
    status, about = raw.get("status") or {}, raw["metadata"]
    state = status.get("applicationState") or {}
    return Application(
        name=about["name"],
        created_at=parse_time(about["creationTimestamp"]),
        state=state.get("state", ""),
        message=state.get("errorMessage", ""),
        submitted_at=parse_time(text) if (text := status.get("lastSubmissionAttemptTime")) else None,
        attempts=max(status.get("executionAttempts", 0), status.get("submissionAttempts", 0)),
        spec_hash=about.get("annotations", {}).get(SPEC_HASH, ""),
    )


def topic(raw: K8sObject) -> Topic:
    """A KafkaTopic. What Strimzi said of an older spec is not said of this one."""
    status, about = raw.get("status") or {}, raw["metadata"]
    created = parse_time(about["creationTimestamp"])
    ready = [entry for entry in status.get("conditions", ()) if entry.get("type") == "Ready"]
    if not ready or status.get("observedGeneration", 0) < about.get("generation", 0):
        return Topic(about["name"], created, changed=bool(ready))
    said = ready[0]
    return Topic(about["name"], created, said["status"] == "True", said.get("reason", ""), said.get("message", ""))


def shard(raw: K8sObject) -> Shard:
    """Parse an ingest pod's `/status`. Raises `msgspec.ValidationError`."""
    status = msgspec.convert(raw, ShardStatus)
    return Shard(
        shard=status.shard,
        connected=status.connected,
        message=status.message,
        rate=status.messages_per_second,
        last_message=status.last_message_time or "",
        reconnects=status.reconnects,
        open_gaps=status.gaps.open,
        repaired_gaps=status.gaps.repaired,
        dead_letters=sum(status.dead_letters.values()),
        refused=tuple(sorted(status.refused.items())),
        waiting=status.unaccepted if status.circuit is CircuitState.CLOSED else status.in_flight,
    )


def layers(raw: K8sObject, feed: str) -> dict[str, Layer]:
    """Parse the layers of one feed in a driver's `/status`. Raises `msgspec.ValidationError`."""
    return {name: _layer(status) for name, status in msgspec.convert(raw, JobsStatus).feeds.get(feed, {}).items()}


def _layer(status: LayerStatus) -> Layer:
    audit = status.audit
    return Layer(
        state=status.state,
        message=status.message,
        rows=status.rows,
        committed=status.last_commit_time or "",
        freshness=status.freshness_seconds,
        dead_letters=sum(status.dead_letters.values()),
        audit=None if audit is msgspec.UNSET else Audit(audit.incomplete_hours, audit.checked_at or ""),
    )


def rejection(verb: str, resource: str, name: str, raw: K8sObject) -> Rejection:
    """An API server's `Status` answer to one request."""
    return Rejection(verb, resource, name, int(raw.get("code", 0)), str(raw.get("message", "")))


def parse_time(text: str) -> datetime:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(text)
