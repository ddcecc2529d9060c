"""Observed state of the cluster as frozen values, and their parsers. Raw API objects may lack any field."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

import msgspec

from k2.operator.desired.naming import COMPONENT, INGEST, SPEC_HASH, channel_of
from k2.schemas.channels import TRADES
from k2.schemas.sharding import Counts
from k2.schemas.states import CircuitState, SymbolState
from k2.schemas.status import JobsStatus, LayerStatus, ShardStatus

K8sObject = Mapping[str, Any]

# Labels that the Spark operator sets on its pods.
_ROLE: Final = "spark-role"
_APPLICATION: Final = "sparkoperator.k8s.io/app-name"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One connection's Deployment. `trouble` is Kubernetes' message if its pods cannot be created."""

    name: str
    desired: int
    ready: int
    current: bool  # the controller has observed the newest spec
    trouble: str = ""
    channel: str = TRADES.name


@dataclass(frozen=True, slots=True)
class Pod:
    """One unhealthy pod, with the reason and message of Kubernetes."""

    name: str
    reason: str
    message: str
    restarts: int
    part: str = INGEST  # the component label: ingest, a layer, or layers; executors have the suffix -executor
    channel: str = TRADES.name  # of an ingest pod


@dataclass(frozen=True, slots=True)
class Application:
    """One SparkApplication. Its state is empty until the Spark operator has processed it."""

    name: str
    created_at: datetime
    state: str = ""
    message: str = ""
    submitted_at: datetime | None = None
    attempts: int = 0
    spec_hash: str = ""


@dataclass(frozen=True, slots=True)
class Topic:
    """One KafkaTopic; `ready` is None until Strimzi has reported on its newest spec."""

    name: str
    created_at: datetime
    ready: bool | None = None
    reason: str = ""
    message: str = ""
    changed: bool = False  # Strimzi has reported on an older spec only


_UNDELIVERED: Final = frozenset({SymbolState.SILENT, SymbolState.UNANSWERED})


@dataclass(frozen=True, slots=True)
class Shard:
    """The status of one ingest pod, from its `/status`."""

    shard: str
    connected: bool
    message: str = ""
    rate: float = 0.0
    last_message: str = ""  # RFC 3339; empty before the first
    reconnects: int = 0
    open_gaps: int = 0
    repaired_gaps: int = 0
    dead_letters: int = 0
    refused: tuple[tuple[str, str], ...] = ()  # symbols and the exchange's error messages
    halted: tuple[str, ...] = ()  # symbols that the exchange's list has as halted
    matching: int | None = None  # instruments that the feed's selector matches; None without one
    left_out: tuple[str, ...] = ()  # those of them beyond maxSymbols
    silent: tuple[str, ...] = ()  # symbols that the exchange trades but does not deliver
    states: tuple[tuple[str, int], ...] = ()  # the number of symbols by state
    clock_ahead: float = 0.0  # seconds that the node's clock is ahead of the exchange's, if that is more than a second
    waiting: int = 0  # records that Kafka does not accept: those that it rejected, or all while the circuit is open
    pod: str = ""  # the pod that reports it
    counts: Counts = ()  # the numbers of shards of which it carries its symbols
    loop_lag: float = 0.0  # seconds by which timers of its event loop are late
    channel: str = TRADES.name


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of the newest audit for the feed's symbols."""

    incomplete_hours: int = 0
    checked_at: str = ""  # RFC 3339


@dataclass(frozen=True, slots=True)
class Layer:
    """The status of one layer, from its driver's `/status`."""

    state: str
    message: str = ""
    rows: int = 0
    committed: str = ""  # RFC 3339; empty before the first
    freshness: float | None = None  # seconds
    dead_letters: int = 0
    audit: Audit | None = None  # only of Gold, after the first audit


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request of the operator that the API server rejected, or in which it failed."""

    verb: str
    resource: str
    name: str
    code: int
    message: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.name}: {self.code} {self.message}"

    @property
    def transient(self) -> bool:
        """Whether the server failed, rather than refused: it may accept the same request later."""
        return self.code >= HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Rebuild:
    """How far the rebuild is that a feed asks for. The state is empty if it never asked for one."""

    nonce: int = 0  # the number that was carried out last
    state: str = ""
    message: str = ""
    due: bool = False  # it is not done: Silver and Gold do not run
    job: bool = False  # its Job exists, or may begin


@dataclass(frozen=True, slots=True)
class Observed:
    """The observed state of one feed."""

    topics: Mapping[str, Topic] = field(default_factory=dict)  # of the feed's channels, by the topic's name
    deployments: tuple[Deployment, ...] = ()
    pods: tuple[Pod, ...] = ()
    shards: tuple[Shard, ...] = ()
    applications: Mapping[str, Application] = field(default_factory=dict)  # by name
    layers: Mapping[str, Layer] = field(default_factory=dict)
    rejections: tuple[Rejection, ...] = ()
    audit: Audit | None = None
    rebuild: Rebuild = field(default_factory=Rebuild)
    counts: Counts = ()  # the numbers of shards by which the symbols are spread
    recommended: int = 0  # the number of shards that the load needs; 0 if the feed says its number
    conflict: str = ""  # why another feed takes precedence over this one
    stuck: frozenset[str] = frozenset()  # applications that were recreated once and are stuck again
    rolled_back: Mapping[str, str] = field(default_factory=dict)  # applications whose new spec was rolled back, and why

    def of_channel(self, channel: str) -> "Observed":
        """Return the state with the ingest of one channel only."""
        return replace(
            self,
            deployments=tuple(each for each in self.deployments if each.channel == channel),
            pods=tuple(each for each in self.pods if each.channel == channel or each.part != INGEST),
            shards=tuple(each for each in self.shards if each.channel == channel),
        )


def deployment(raw: K8sObject) -> Deployment:
    """Parse a Deployment."""
    status, metadata = raw.get("status", {}), raw["metadata"]
    failures = [entry for entry in status.get("conditions", ()) if entry.get("type") == "ReplicaFailure"]
    trouble = next((str(entry.get("message", "")) for entry in failures if entry.get("status") == "True"), "")
    current = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    desired = raw.get("spec", {}).get("replicas", 1)
    return Deployment(metadata["name"], desired, status.get("readyReplicas", 0), current, trouble, channel_of(raw))


def unhealthy_pods(raws: Iterable[K8sObject]) -> tuple[Pod, ...]:
    """Return the pods that wait for something or terminate repeatedly."""
    waiting = ((raw, *_waiting(raw)) for raw in raws)
    return tuple(
        Pod(raw["metadata"]["name"], reason, message, restarts, _part(raw["metadata"]), channel_of(raw))
        for raw, reason, message, restarts in waiting
        if reason
    )


def termination_messages(raws: Iterable[K8sObject]) -> dict[str, str]:
    """Return the termination messages of drivers, by their application."""
    return {
        raw["metadata"]["labels"][_APPLICATION]: message
        for raw in raws
        if raw["metadata"].get("labels", {}).get(_ROLE) == "driver" and _APPLICATION in raw["metadata"]["labels"]
        for container in raw.get("status", {}).get("containerStatuses", ())
        if (message := " ".join(container.get("state", {}).get("terminated", {}).get("message", "").split()))
    }


def _part(metadata: K8sObject) -> str:
    return str(metadata.get("labels", {}).get(COMPONENT, INGEST))


def _waiting(raw: K8sObject) -> tuple[str, str, int]:
    """Return reason, message and restarts of a pod that waits; empty if it does not."""
    status = raw.get("status", {})
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return condition.get("reason", "Unschedulable"), condition.get("message", ""), 0
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting", {})
        terminated = container.get("lastState", {}).get("terminated", {})
        restarts = container.get("restartCount", 0)
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            message = terminated.get("message") or _exit_code(terminated) or waiting.get("message", "")
            return waiting["reason"], message, restarts
    return "", "", 0


def _exit_code(terminated: K8sObject) -> str:
    if "exitCode" not in terminated:
        return ""
    return f"{terminated.get('reason', 'Error')}, exit code {terminated['exitCode']}"


def application(raw: K8sObject) -> Application:
    """Parse a SparkApplication of `sparkoperator.k8s.io`."""
    status, metadata = raw.get("status") or {}, raw["metadata"]
    state = status.get("applicationState") or {}
    return Application(
        name=metadata["name"],
        created_at=parse_time(metadata["creationTimestamp"]),
        state=state.get("state", ""),
        message=state.get("errorMessage", ""),
        submitted_at=parse_time(text) if (text := status.get("lastSubmissionAttemptTime")) else None,
        attempts=max(status.get("executionAttempts", 0), status.get("submissionAttempts", 0)),
        spec_hash=metadata.get("annotations", {}).get(SPEC_HASH, ""),
    )


def topic(raw: K8sObject) -> Topic:
    """Parse a KafkaTopic. Conditions of an older spec are ignored."""
    status, metadata = raw.get("status") or {}, raw["metadata"]
    created = parse_time(metadata["creationTimestamp"])
    ready = [entry for entry in status.get("conditions", ()) if entry.get("type") == "Ready"]
    if not ready or status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return Topic(metadata["name"], created, changed=bool(ready))
    condition = ready[0]
    return Topic(
        metadata["name"],
        created,
        condition["status"] == "True",
        condition.get("reason", ""),
        condition.get("message", ""),
    )


def shard(raw: K8sObject, pod: str = "", channel: str = TRADES.name) -> Shard:
    """Parse the `/status` of an ingest pod of this name and channel. Raises `msgspec.ValidationError`."""
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
        halted=status.instruments.halted,
        matching=status.instruments.matching,
        left_out=status.instruments.left_out,
        silent=tuple(sorted(name for name, symbol in status.symbols.items() if symbol.state in _UNDELIVERED)),
        states=tuple((state, count) for state, count in status.states.items() if count),
        clock_ahead=(status.clock_offset_seconds or 0.0) if status.clock_wrong else 0.0,
        waiting=status.unaccepted if status.circuit is CircuitState.CLOSED else status.in_flight,
        pod=pod,
        counts=status.shards,
        loop_lag=status.loop_lag_seconds,
        channel=channel,
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
    """Parse an API server's `Status` response to one request."""
    return Rejection(verb, resource, name, int(raw.get("code", 0)), str(raw.get("message", "")))


def parse_time(text: str) -> datetime:
    """Parse a time as Kubernetes writes it."""
    return datetime.fromisoformat(text)
