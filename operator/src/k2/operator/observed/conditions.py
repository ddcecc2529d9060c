"""Conditions of a feed, as `kubectl wait` and people read them.

A condition's `lastTransitionTime` changes when its status changes, and at no other time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from k2.operator.desired.naming import LAYERS, application_names
from k2.operator.observed import connections, diagnostics
from k2.operator.observed.diagnostics import Diagnosis
from k2.operator.observed.objects import Observed
from k2.schemas.feed.model import ExchangeFeed

READY: Final = "Ready"
TOPIC: Final = "TopicReady"
INGEST: Final = "IngestReady"
SYMBOLS_REFUSED: Final = "SymbolsRefused"  # the only condition that is good when it is False
OF_LAYER: Final = {layer: f"{layer.capitalize()}Ready" for layer in LAYERS}
ORDER: Final = (READY, TOPIC, INGEST, *OF_LAYER.values(), SYMBOLS_REFUSED)

_MAX_MESSAGE: Final = 1024  # characters


@dataclass(frozen=True, slots=True)
class Condition:
    """One `metav1.Condition`."""

    type: str
    status: str
    reason: str
    message: str
    since: str  # RFC 3339
    generation: int

    def document(self) -> dict[str, Any]:
        """Return the condition as the API server stores it."""
        return {
            "type": self.type,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "lastTransitionTime": self.since,
            "observedGeneration": self.generation,
        }

    @property
    def transient(self) -> bool:
        """Whether the condition resolves without user action."""
        return self.status != "True" and self.reason in diagnostics.TRANSIENT_REASONS


def parse(raw: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """Parse the conditions in a live object's status."""
    return tuple(
        Condition(
            item["type"],
            item["status"],
            item["reason"],
            item.get("message", ""),
            item["lastTransitionTime"],
            item.get("observedGeneration", 0),
        )
        for item in raw
    )


def diagnose(feed: ExchangeFeed, observed: Observed, now: datetime, *, managed: bool) -> dict[str, Diagnosis]:
    """Diagnose each part of a feed and the feed as a whole, by condition type. `managed`: K2 creates the topics."""
    applications = application_names(feed)
    parts = {
        TOPIC: diagnostics.topic(feed, observed, now, managed=managed),
        INGEST: connections.diagnose(feed, observed),
        **{OF_LAYER[layer]: diagnostics.layer(feed, observed, layer, applications[layer], now) for layer in LAYERS},
    }
    return {READY: diagnostics.summarize(parts), **parts, SYMBOLS_REFUSED: connections.symbols_refused(observed)}


def rejected_spec(reason: str, message: str, previous: Iterable[Condition]) -> dict[str, Diagnosis]:
    """Diagnose a feed whose spec cannot be applied: its parts stay as they were."""
    by_type = {condition.type: condition for condition in previous}
    parts: dict[str, Diagnosis] = {}
    for name in ORDER[1:]:
        condition = by_type.get(name)
        parts[name] = (
            diagnostics.unknown(reason, "the feed has never run") if condition is None else _unchanged(condition)
        )
    return {READY: diagnostics.unready(reason, message), **parts}


def update(
    diagnoses: Mapping[str, Diagnosis], previous: Iterable[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions to write, in order, with transition times carried over from the previous ones."""
    by_type = {condition.type: condition for condition in previous}
    return tuple(
        _updated(name, diagnoses[name], by_type.get(name), generation, now) for name in ORDER if name in diagnoses
    )


def _updated(name: str, diagnosis: Diagnosis, previous: Condition | None, generation: int, now: datetime) -> Condition:
    since = previous.since if previous is not None and previous.status == diagnosis.status else rfc3339(now)
    message = diagnosis.message
    if len(message) > _MAX_MESSAGE:
        message = f"{message[: _MAX_MESSAGE - 3]}..."
    return Condition(name, diagnosis.status, diagnosis.reason, message, since, generation)


def _unchanged(condition: Condition) -> Diagnosis:
    match condition.status:
        case "True":
            return diagnostics.ready(condition.message, condition.reason)
        case "False":
            return diagnostics.unready(condition.reason, condition.message)
    return diagnostics.unknown(condition.reason, condition.message)


def rfc3339(moment: datetime) -> str:
    """Format a time as Kubernetes does, in UTC and to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
