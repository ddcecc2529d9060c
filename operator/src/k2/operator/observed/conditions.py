"""A feed's conditions, as `kubectl wait` and people read them.

A condition's `lastTransitionTime` moves when its status does, and at no other time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from k2.operator.desired.naming import LAYERS, application_names
from k2.operator.observed import diagnostics
from k2.operator.observed.diagnostics import Verdict
from k2.operator.observed.objects import Observed
from k2.schemas.feed.model import ExchangeFeed

READY: Final = "Ready"
TOPIC: Final = "TopicReady"
INGEST: Final = "IngestReady"
OF_LAYER: Final = {layer: f"{layer.capitalize()}Ready" for layer in LAYERS}
ORDER: Final = (READY, TOPIC, INGEST, *OF_LAYER.values())

_MOST: Final = 1024  # characters of a message


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
        """The condition as the API server holds it."""
        return {
            "type": self.type,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "lastTransitionTime": self.since,
            "observedGeneration": self.generation,
        }

    @property
    def passing(self) -> bool:
        """Whether this will pass without anybody's hand."""
        return self.status != "True" and self.reason in diagnostics.PASSING


def parse(raw: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """The conditions of a live object's status."""
    return tuple(
        Condition(
            about["type"],
            about["status"],
            about["reason"],
            about.get("message", ""),
            about["lastTransitionTime"],
            about.get("observedGeneration", 0),
        )
        for about in raw
    )


def judge(feed: ExchangeFeed, seen: Observed, now: datetime, *, managed: bool) -> dict[str, Verdict]:
    """What is said of each part, and of the whole. `managed`: whether K2 makes the topics."""
    applications = application_names(feed)
    parts = {
        TOPIC: diagnostics.topic(feed, seen, now, managed=managed),
        INGEST: diagnostics.ingest(feed, seen),
        **{OF_LAYER[layer]: diagnostics.layer(feed, seen, layer, applications[layer], now) for layer in LAYERS},
    }
    return {READY: rolled_up(parts), **parts}


def rolled_up(parts: Mapping[str, Verdict]) -> Verdict:
    """The whole: what needs a hand before what will pass, and of those the first, on which the others depend."""
    bad = [(name, verdict) for name, verdict in parts.items() if verdict.status != "True"]
    if not bad:
        return diagnostics.ready("all parts run")
    trouble = [(name, verdict) for name, verdict in bad if not verdict.passing]
    moving = [(name, verdict) for name, verdict in bad if verdict.reason != "Suspended"]
    name, first = (trouble or moving or bad)[0]
    others = ", ".join(other for other, _ in bad if other != name)
    more = f" (also not ready: {others})" if others else ""
    said = diagnostics.unready if any(verdict.status == "False" for _, verdict in bad) else diagnostics.unknown
    return said(first.reason, f"{name}: {first.message}{more}")


def refused(reason: str, message: str, before: Iterable[Condition]) -> dict[str, Verdict]:
    """What is said of a feed that cannot be run as it is written: its parts stay as they were."""
    known = {found.type: found for found in before}
    parts: dict[str, Verdict] = {}
    for name in ORDER[1:]:
        found = known.get(name)
        parts[name] = diagnostics.unknown(reason, "the feed was never run") if found is None else _again(found)
    return {READY: diagnostics.unready(reason, message), **parts}


def settled(
    said: Mapping[str, Verdict], before: Iterable[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions to write, in their order."""
    known = {found.type: found for found in before}
    return tuple(_settle(name, said[name], known.get(name), generation, now) for name in ORDER if name in said)


def _settle(name: str, said: Verdict, before: Condition | None, generation: int, now: datetime) -> Condition:
    since = before.since if before is not None and before.status == said.status else rfc3339(now)
    message = said.message if len(said.message) <= _MOST else f"{said.message[: _MOST - 3]}..."
    return Condition(name, said.status, said.reason, message, since, generation)


def _again(found: Condition) -> Verdict:
    match found.status:
        case "True":
            return diagnostics.ready(found.message, found.reason)
        case "False":
            return diagnostics.unready(found.reason, found.message)
    return diagnostics.unknown(found.reason, found.message)


def rfc3339(moment: datetime) -> str:
    """A time as Kubernetes writes it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
