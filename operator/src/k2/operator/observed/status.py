"""The whole status of an ExchangeFeed, and the Events that its changes are worth."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from k2.operator.desired.naming import LAYERS, application_names
from k2.operator.observed import conditions
from k2.operator.observed.conditions import Condition
from k2.operator.observed.diagnostics import Verdict
from k2.operator.observed.objects import Audit, Observed
from k2.operator.observed.phase import phase
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.values import duration_text

_TOP: Final = ("observedGeneration", "phase", "conditions")


def status(
    feed: ExchangeFeed, body: Mapping[str, Any], seen: Observed, now: datetime, *, managed: bool
) -> dict[str, Any]:
    """The status to write. `body` is the live object: its generation, and the status that was written before."""
    said = conditions.judge(feed, seen, now, managed=managed)
    return _head(body, said, now) | {"ingest": _ingest(seen), "layers": _layers(feed, seen)}


def invalid(body: Mapping[str, Any], reason: str, message: str, now: datetime) -> dict[str, Any]:
    """The status of a feed that cannot be run as it is written. What runs goes on, and so do its figures."""
    said = conditions.refused(reason, message, before(body))
    kept = {name: value for name, value in (body.get("status") or {}).items() if name in {"ingest", "layers"}}
    return _head(body, said, now) | kept


def before(body: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The conditions that were written before."""
    return conditions.parse((body.get("status") or {}).get("conditions") or ())


def _head(body: Mapping[str, Any], said: Mapping[str, Verdict], now: datetime) -> dict[str, Any]:
    about = body["metadata"]
    found = conditions.settled(said, before(body), about["generation"], now)
    whole = next(condition for condition in found if condition.type == conditions.READY)
    return {
        "observedGeneration": about["generation"],
        "phase": phase(found, deleting="deletionTimestamp" in about),
        "message": "" if whole.status == "True" else whole.message,
        "symbols": len(body["spec"].get("symbols", ())),
        "conditions": [condition.document() for condition in found],
    }


def _ingest(seen: Observed) -> dict[str, Any]:
    newest = max((shard.last_message for shard in seen.shards), default="")
    return {
        "connected": sum(shard.connected for shard in seen.shards),
        "desired": sum(deployment.wanted for deployment in seen.deployments),
        "messagesPerSecond": round(sum(shard.rate for shard in seen.shards)),
        **({"lastMessageTime": newest} if newest else {}),
        "reconnects": sum(shard.reconnects for shard in seen.shards),
        "openGaps": sum(shard.open_gaps for shard in seen.shards),
        "repairedGaps": sum(shard.repaired_gaps for shard in seen.shards),
    }


def _layers(feed: ExchangeFeed, seen: Observed) -> dict[str, Any]:
    names = application_names(feed)
    dead = sum(layer.dead_letters for layer in seen.layers.values()) + sum(shard.dead_letters for shard in seen.shards)
    return {
        **{layer: _layer(seen, layer, names[layer]) for layer in LAYERS},
        "deadLetters": dead,
        **({"audit": _audit(seen.audit)} if seen.audit else {}),
    }


def _audit(found: Audit) -> dict[str, Any]:
    checked = {"checkedAt": found.checked_at} if found.checked_at else {}
    return {"incompleteHours": found.incomplete_hours, **checked}


def _layer(seen: Observed, layer: str, name: str) -> dict[str, Any]:
    found, query = seen.applications.get(name), seen.layers.get(layer)
    told: dict[str, Any] = {"application": name, "state": found.state if found and found.state else "UNKNOWN"}
    if query is not None:
        told["rows"] = query.rows
        if query.committed:
            told["lastCommitTime"] = query.committed
        if query.freshness is not None:
            told["freshness"] = duration_text(max(0.0, query.freshness))
    return told


def worth_writing(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    """Whether a status says more than new figures: those may wait for the next round."""
    return old is None or any(new.get(name) != old.get(name) for name in _TOP)


def events(old: Iterable[Condition], new: Iterable[Condition]) -> list[tuple[str, str, str]]:
    """Events for what changed, each a type, a reason and a message: one a transition, none while nothing happens."""
    known = {found.type: (found.status, found.reason) for found in old}
    told = []
    for found in new:
        if known.get(found.type) == (found.status, found.reason) or found.type == conditions.READY:
            continue
        if found.status == "True" and known.get(found.type, ("", ""))[0] != "True":
            told.append(("Normal", found.type, found.message))
        elif found.status != "True" and not found.passing:
            told.append(("Warning", found.reason, f"{found.type}: {found.message}"))
    return _once(told) + _whole(known, new)


def _whole(known: Mapping[str, tuple[str, str]], new: Iterable[Condition]) -> list[tuple[str, str, str]]:
    whole = next((found for found in new if found.type == conditions.READY), None)
    if whole is None or known.get(conditions.READY) == (whole.status, whole.reason):
        return []
    if whole.status == "True":
        return [("Normal", "Ready", whole.message)]
    if whole.reason in {"Suspended", "Deleting"}:
        return [("Normal", whole.reason, whole.message)]
    return [("Warning", whole.reason, whole.message)] if whole.reason in {"InvalidSpec", "PurgeFailed"} else []


def _once(told: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Three layers that miss the same operator are one Event."""
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for kind, reason, message in told:
        key = (reason, message.partition(": ")[2]) if kind == "Warning" else (reason, message)
        found.setdefault(key, (kind, reason, message))
    return list(found.values())
