"""The status of an ExchangeFeed, and the Events that report its changes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from k2.operator.desired.naming import LAYERS, application_names
from k2.operator.observed import conditions
from k2.operator.observed.conditions import Condition
from k2.operator.observed.diagnostics import Diagnosis
from k2.operator.observed.objects import Audit, Observed, Rebuild, Shard
from k2.operator.observed.phase import phase
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.states import RebuildState
from k2.schemas.values import duration_text

Event = tuple[str, str, str]  # type, reason, message

_NOTICES: Final = frozenset({"SymbolsLeftOut", "SymbolsHalted"})  # reasons of a condition that is True
_NO_SHARD: Final = Shard("", connected=False)
_FIGURES: Final = ("rebuild", "ingest", "channels", "layers")
_SIGNIFICANT: Final = ("observedGeneration", "phase", "conditions", "rebuild")


def status(
    feed: ExchangeFeed, body: Mapping[str, Any], observed: Observed, now: datetime, *, managed: bool
) -> dict[str, Any]:
    """Build the status of a feed.

    Args:
        feed: The validated feed.
        body: The live object: its generation, and the status that was written before.
        observed: The state of the feed's parts.
        now: Becomes the transition time of conditions whose status changes.
        managed: Whether K2 creates the topics.

    """
    diagnoses = conditions.diagnose(feed, observed, now, managed=managed)
    ingest = _ingest(observed)
    channels = {channel.name: _channel(observed.of_channel(channel.name)) for channel in feed.channels}
    head = _head(body, diagnoses, now)
    if feed.spec.symbol_selector is not None:
        head["symbols"] = max((shard.matching or 0) - len(shard.left_out) for shard in observed.shards or (_NO_SHARD,))
    head["rebuild"] = _rebuild(observed.rebuild)
    ingest |= {"shards": observed.counts[0]} if observed.counts else {}
    ingest |= {"recommendedShards": observed.recommended} if observed.recommended else {}
    return head | {"ingest": ingest, "channels": channels, "layers": _layers(feed, observed)}


def blocked(body: Mapping[str, Any], reason: str, message: str, now: datetime) -> dict[str, Any]:
    """Build the status of a feed whose spec cannot be applied. Running parts go on, and their figures are kept."""
    diagnoses = conditions.rejected_spec(reason, message, previous_conditions(body))
    figures = {name: value for name, value in (body.get("status") or {}).items() if name in _FIGURES}
    return _head(body, diagnoses, now) | figures


def previous_conditions(body: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Return the conditions that were written before."""
    return conditions.parse((body.get("status") or {}).get("conditions") or ())


def _head(body: Mapping[str, Any], diagnoses: Mapping[str, Diagnosis], now: datetime) -> dict[str, Any]:
    metadata = body["metadata"]
    updated = conditions.update(diagnoses, previous_conditions(body), metadata["generation"], now)
    ready = next(condition for condition in updated if condition.type == conditions.READY)
    return {
        "observedGeneration": metadata["generation"],
        "phase": phase(updated, deleting="deletionTimestamp" in metadata),
        "message": "" if ready.status == "True" else ready.message,
        "symbols": len(body["spec"].get("symbols") or ()),
        "conditions": [condition.document() for condition in updated],
    }


def _channel(observed: Observed) -> dict[str, Any]:
    return {**_ingest(observed), "symbols": _symbols(observed)}


def _ingest(observed: Observed) -> dict[str, Any]:
    """Return the figures of the connections of all channels that are observed, summed."""
    newest = max((shard.last_message for shard in observed.shards), default="")
    return {
        "connected": sum(shard.connected for shard in observed.shards),
        "desired": sum(deployment.desired for deployment in observed.deployments),
        "messagesPerSecond": round(sum(shard.rate for shard in observed.shards)),
        **({"lastMessageTime": newest} if newest else {}),
        "reconnects": sum(shard.reconnects for shard in observed.shards),
        "openGaps": sum(shard.open_gaps for shard in observed.shards),
        "repairedGaps": sum(shard.repaired_gaps for shard in observed.shards),
    }


def _symbols(observed: Observed) -> dict[str, int]:
    """Return the number of symbols by state, of the states that any symbol is in; each replica counts its own."""
    counts: Counter[str] = Counter()
    for shard in observed.shards:
        counts.update(dict(shard.states))
    return {state: count for state, count in counts.items() if count}


def _layers(feed: ExchangeFeed, observed: Observed) -> dict[str, Any]:
    names = application_names(feed)
    dead_letters = sum(layer.dead_letters for layer in observed.layers.values())
    dead_letters += sum(shard.dead_letters for shard in observed.shards)
    return {
        **{layer: _layer(observed, layer, names[layer]) for layer in LAYERS},
        "deadLetters": dead_letters,
        **({"audit": _audit(observed.audit)} if observed.audit else {}),
    }


def _rebuild(rebuild: Rebuild) -> dict[str, Any]:
    return {"nonce": rebuild.nonce, **({"state": rebuild.state, "message": rebuild.message} if rebuild.state else {})}


def _audit(audit: Audit) -> dict[str, Any]:
    checked = {"checkedAt": audit.checked_at} if audit.checked_at else {}
    return {"incompleteHours": audit.incomplete_hours, **checked}


def _layer(observed: Observed, layer: str, name: str) -> dict[str, Any]:
    application, query = observed.applications.get(name), observed.layers.get(layer)
    state = application.state if application and application.state else "UNKNOWN"
    document: dict[str, Any] = {"application": name, "state": state}
    if query is not None:
        document["rows"] = query.rows
        if query.committed:
            document["lastCommitTime"] = query.committed
        if query.freshness is not None:
            document["freshness"] = duration_text(max(0.0, query.freshness))
    return document


def is_significant(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    """Return whether a status differs in more than figures, which may wait for the next round."""
    return old is None or any(new.get(name) != old.get(name) for name in _SIGNIFICANT)


def events(old: Iterable[Condition], new: Iterable[Condition]) -> list[Event]:
    """Return the Events for changed conditions: one for each transition, none while nothing changes."""
    previous = {condition.type: (condition.status, condition.reason) for condition in old}
    of_parts: list[Event] = []
    for condition in new:
        unchanged = previous.get(condition.type) == (condition.status, condition.reason)
        if unchanged or condition.type == conditions.READY:
            continue
        if condition.type == conditions.SYMBOLS_REFUSED:
            of_parts += _of_symbols(condition, previous)
            continue
        if condition.reason in _NOTICES:
            of_parts.append(("Warning", condition.reason, condition.message))
        elif condition.status == "True" and previous.get(condition.type, ("", ""))[0] != "True":
            of_parts.append(("Normal", condition.type, condition.message))
        elif condition.status != "True" and not condition.transient:
            of_parts.append(("Warning", condition.reason, f"{condition.type}: {condition.message}"))
    return _deduplicated(of_parts) + _of_feed(previous, new)


def rebuild_events(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[Event]:
    """Return the Event for a rebuild that began or ended."""
    before, now = ((status or {}).get("rebuild", {}) for status in (old, new))
    state = now.get("state", "")
    if old is None or not state or state == before.get("state"):
        return []
    kind = "Warning" if state == RebuildState.FAILED else "Normal"
    return [(kind, f"Rebuild{state}", now["message"])]


def listing_events(old: Mapping[str, Any] | None, new: Mapping[str, Any], spec: Mapping[str, Any]) -> list[Event]:
    """Return the Event for more or fewer symbols of a feed that selects them from the exchange's list."""
    before, now = (old or {}).get("symbols", 0), new.get("symbols", 0)
    if not spec.get("symbolSelector") or not before or not now or before == now:
        return []
    change = f"{now - before} more" if now > before else f"{before - now} fewer"
    return [("Normal", "SymbolsChanged", f"the feed follows {now} symbols, {change} than before")]


def shard_events(old: Mapping[str, Any] | None, new: Mapping[str, Any], reason: str) -> list[Event]:
    """Return the Events for another number of shards, and for one that is recommended and not applied."""
    before, now = ((status or {}).get("ingest", {}) for status in (old, new))
    shards, why = now.get("shards"), f": {reason}" if reason else ""
    events: list[Event] = []
    if shards and before.get("shards") not in {None, shards}:
        events.append(("Normal", "ShardsChanged", f"{shards} shards instead of {before['shards']}{why}"))
    recommended = now.get("recommendedShards", shards)
    if recommended not in {shards, before.get("recommendedShards")}:
        events.append(("Normal", "ShardsRecommended", f"{recommended} shards instead of {shards}{why}"))
    return events


def _of_symbols(condition: Condition, previous: Mapping[str, tuple[str, str]]) -> list[Event]:
    if condition.status == "True":
        return [("Warning", condition.type, condition.message)]
    was_refused = previous.get(condition.type, ("", ""))[0] == "True"
    return [("Normal", condition.type, condition.message)] if was_refused and condition.status == "False" else []


def _of_feed(previous: Mapping[str, tuple[str, str]], new: Iterable[Condition]) -> list[Event]:
    ready = next((condition for condition in new if condition.type == conditions.READY), None)
    if ready is None or previous.get(conditions.READY) == (ready.status, ready.reason):
        return []
    if ready.status == "True":
        return [("Normal", "Ready", ready.message)]
    if ready.reason in {"Suspended", "Deleting"}:
        return [("Normal", ready.reason, ready.message)]
    return [("Warning", ready.reason, ready.message)] if ready.reason in {"InvalidSpec", "PurgeFailed"} else []


def _deduplicated(of_parts: list[Event]) -> list[Event]:
    """Merge Events that differ in the part only: three layers that miss the same operator are one Event."""
    unique: dict[tuple[str, str], Event] = {}
    for kind, reason, message in of_parts:
        key = (reason, message.partition(": ")[2]) if kind == "Warning" else (reason, message)
        unique.setdefault(key, (kind, reason, message))
    return list(unique.values())
