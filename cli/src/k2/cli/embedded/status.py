"""The rows of `kubectl get feeds` for an embedded platform, from what its parts tell over HTTP."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

import msgspec

from k2.cli.embedded import plan
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.ports import HOST
from k2.cli.embedded.state import State
from k2.schemas.feed.model import ExchangeFeed

_TIMEOUT: Final = 2.0
_LAYERS: Final = ("bronze", "silver", "gold")


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """One feed. Times in seconds; `freshness` is None before the first trade is in Gold."""

    name: str
    exchange: str
    symbols: int
    phase: str
    rate: float = 0.0
    freshness: float | None = None
    open_gaps: int = 0
    repaired_gaps: int = 0
    unrecoverable_gaps: int = 0
    age: float = 0.0
    topology: str = ""
    dead_letters: int = 0
    message: str = ""
    connected: int = 0
    desired: int = 0
    reconnects: int = 0
    received: int = 0
    delivered: int = 0
    duplicates: int = 0
    backfilled: int = 0
    lag: float | None = None
    rows: dict[str, int] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)


def feeds(layout: Layout, state: State) -> list[ExchangeFeed]:
    """The feeds that run, or ran last, in a folder. Raises `InvalidSpec`, OSError."""
    return [ExchangeFeed.from_yaml((layout.feeds / f"{name}.yaml").read_bytes()) for name in state.feeds]


def look(found: Iterable[ExchangeFeed], state: State) -> list[FeedStatus]:
    """Every feed as it is now."""
    known = list(found)
    jobs = _ask(state, plan.JOBS) if state.running else None
    layers = jobs["feeds"] if jobs else {}
    return [_feed(feed, state, layers.get(feed.name, {})) for feed in known]


def _feed(feed: ExchangeFeed, state: State, layers: dict[str, Any]) -> FeedStatus:
    parts = [shard.part for shard in plan.shards([feed])]
    told = [status for part in parts if state.running and (status := _ask(state, part)) is not None]
    gold = layers.get("gold", {})
    return FeedStatus(
        name=feed.name,
        exchange=feed.spec.exchange,
        symbols=len(feed.spec.symbols),
        phase=phase(feed, state, told, layers, len(parts)),
        rate=sum(status["messagesPerSecond"] for status in told),
        freshness=gold.get("freshnessSeconds"),
        open_gaps=sum(status["gaps"]["open"] for status in told),
        repaired_gaps=sum(status["gaps"]["repaired"] for status in told),
        unrecoverable_gaps=sum(status["gaps"]["unrecoverable"] for status in told),
        age=time.time() - state.started_at,
        topology=feed.spec.layers.topology,
        dead_letters=sum(sum(status["deadLetters"].values()) for status in told)
        + sum(layers.get("silver", {}).get("deadLetters", {}).values()),
        message=_message(state, parts, told, layers),
        connected=sum(status["connected"] for status in told),
        desired=len(parts),
        reconnects=sum(status["reconnects"] for status in told),
        received=sum(status["received"] for status in told),
        delivered=sum(status["delivered"] for status in told),
        duplicates=sum(status["duplicates"] for status in told),
        backfilled=sum(status["backfilled"] for status in told),
        rows={layer: layers[layer]["rows"] for layer in _LAYERS if layer in layers},
        prices={symbol: about["price"] for status in told for symbol, about in status["symbols"].items()},
    )


def phase(feed: ExchangeFeed, state: State, told: list[dict[str, Any]], layers: dict[str, Any], desired: int) -> str:
    """One of the phases of an ExchangeFeed's status; `Stopped` where nothing runs."""
    if not state.running:
        return "Stopped"
    if feed.spec.suspend:
        return "Suspended"
    if any(shard.part in state.failed for shard in plan.shards([feed])):
        return "Failed"
    states = [about["state"] for about in layers.values()]
    if "FAILED" in states:
        return "Degraded"
    if len(told) < desired or not states or {"STARTING", "WAITING"} & set(states):
        return "Progressing"
    return "Running" if all(status["connected"] for status in told) else "Degraded"


def _message(state: State, parts: list[str], told: list[dict[str, Any]], layers: dict[str, Any]) -> str:
    words = [state.failed[part] for part in parts if part in state.failed]
    words += [status["message"] for status in told if status["message"] and not status["connected"]]
    words += [f"{native} is refused: {why}" for status in told for native, why in status["refused"].items()]
    words += [f"{layer}: {about['message']}" for layer, about in layers.items() if about["message"]]
    return "; ".join(words)


def _ask(state: State, part: str) -> dict[str, Any] | None:
    """What a part tells of itself; None while it cannot."""
    port = state.ports.get(part)
    if port is None:
        return None
    try:
        with urlopen(f"http://{HOST}:{port}/status", timeout=_TIMEOUT) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, Any])
    except (URLError, OSError, HTTPException, msgspec.DecodeError):
        return None
