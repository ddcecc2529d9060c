"""Status of an embedded platform's feeds: the columns of `kubectl get feeds`, read from the processes over HTTP."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Final, TypeVar
from urllib.error import URLError
from urllib.request import urlopen

import msgspec

from k2.cli.embedded import plan
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.ports import HOST
from k2.cli.embedded.state import State
from k2.schemas.channels import TRADES, Channel
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.feed.phases import STOPPED
from k2.schemas.states import QueryState, SymbolState
from k2.schemas.status import JobsStatus, LayerStatus, ShardStatus, SymbolStatus

_TIMEOUT: Final = 2.0  # seconds
_LAYERS: Final = ("bronze", "silver", "gold")
_GOLD, _SILVER = _LAYERS[2], _LAYERS[1]
_Document = TypeVar("_Document", ShardStatus, JobsStatus)


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """The status of one channel of a feed. Times are in seconds; `freshness` is None before the first row of Gold."""

    name: str
    connected: int
    desired: int
    rate: float
    freshness: float | None
    open_gaps: int
    repaired_gaps: int
    reconnects: int
    received: int
    delivered: int
    rows: int  # of Gold, since the start
    states: dict[str, int]  # symbols by state


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """The status of one feed: the sums of its channels.

    Times are in seconds; `freshness` is that of the channel furthest behind, None before the first row of Gold. `rows`
    has the names of layers as `k2.schemas.status.JobsStatus` has them.
    """

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
    states: dict[str, int] = field(default_factory=dict)  # symbols by state
    waiting: dict[str, str] = field(default_factory=dict)  # the state of each symbol that does not flow in a channel
    channels: tuple[ChannelStatus, ...] = ()


def feeds(layout: Layout, state: State) -> list[ExchangeFeed]:
    """Return the feeds that run, or ran last, in a folder. Raises `InvalidSpec`, OSError."""
    return [ExchangeFeed.from_yaml((layout.feeds / f"{name}.yaml").read_bytes()) for name in state.feeds]


def collect(feeds: Iterable[ExchangeFeed], state: State) -> list[FeedStatus]:
    """Return the current status of each feed."""
    jobs = _fetch(state, plan.JOBS, JobsStatus) if state.running else None
    return [_feed_status(feed, state, jobs.feeds.get(feed.name, {}) if jobs else {}) for feed in feeds]


def _feed_status(feed: ExchangeFeed, state: State, layers: Mapping[str, LayerStatus]) -> FeedStatus:
    planned = list(plan.shards([feed]))
    parts = [shard.part for shard in planned]
    shards = [status for part in parts if state.running and (status := _fetch(state, part, ShardStatus)) is not None]
    channels = tuple(
        channel_status(channel, sum(shard.channel is channel for shard in planned), shards, layers)
        for channel in feed.channels
    )
    silvers = [status for name, status in layers.items() if _is(_SILVER, name)]
    return FeedStatus(
        name=feed.name,
        exchange=feed.spec.exchange,
        symbols=len(feed.names) or len({name for shard in shards for name in shard.symbols}),
        phase=phase(feed, state, shards, layers, len(parts)),
        rate=sum(shard.messages_per_second for shard in shards),
        freshness=max((each.freshness for each in channels if each.freshness is not None), default=None),
        open_gaps=sum(shard.gaps.open for shard in shards),
        repaired_gaps=sum(shard.gaps.repaired for shard in shards),
        unrecoverable_gaps=sum(shard.gaps.unrecoverable for shard in shards),
        age=time.time() - state.started_at,
        topology=feed.spec.layers.topology,
        dead_letters=sum(sum(shard.dead_letters.values()) for shard in shards)
        + sum(sum(silver.dead_letters.values()) for silver in silvers),
        message=_message(state, parts, shards, layers),
        connected=sum(shard.connected for shard in shards),
        desired=len(parts),
        reconnects=sum(shard.reconnects for shard in shards),
        received=sum(shard.received for shard in shards),
        delivered=sum(shard.delivered for shard in shards),
        duplicates=sum(shard.duplicates for shard in shards),
        backfilled=sum(shard.backfilled for shard in shards),
        rows={name: status.rows for name, status in layers.items() if any(_is(layer, name) for layer in _LAYERS)},
        prices={name: symbol.price for shard in shards for name, symbol in shard.symbols.items() if symbol.price},
        states=dict(sum((Counter(shard.states) for shard in shards), Counter())),
        waiting={
            name: symbol.state
            for shard in shards
            for name, symbol in shard.symbols.items()
            if symbol.state and symbol.state != SymbolState.FLOWING
        },
        channels=channels,
    )


def channel_status(
    channel: Channel, desired: int, shards: Iterable[ShardStatus], layers: Mapping[str, LayerStatus]
) -> ChannelStatus:
    """Return the status of a channel of a feed, of whose processes `desired` should run."""
    own = [shard for shard in shards if shard.channel == channel.name]
    gold = layers.get(_GOLD if channel is TRADES else f"{channel.name}/{_GOLD}")
    return ChannelStatus(
        name=channel.name,
        connected=sum(shard.connected for shard in own),
        desired=desired,
        rate=sum(shard.messages_per_second for shard in own),
        freshness=gold.freshness_seconds if gold else None,
        open_gaps=sum(shard.gaps.open for shard in own),
        repaired_gaps=sum(shard.gaps.repaired for shard in own),
        reconnects=sum(shard.reconnects for shard in own),
        received=sum(shard.received for shard in own),
        delivered=sum(shard.delivered for shard in own),
        rows=gold.rows if gold else 0,
        states=dict(sum((Counter(shard.states) for shard in own), Counter())),
    )


def _is(layer: str, name: str) -> bool:
    """Return whether a layer in the status of the jobs, of whatever channel, is this one."""
    return name.rpartition("/")[2] == layer


def phase(
    feed: ExchangeFeed, state: State, shards: Sequence[ShardStatus], layers: Mapping[str, LayerStatus], desired: int
) -> str:
    """Return one of the phases of an ExchangeFeed's status, or `Stopped` if the platform does not run."""
    if not state.running:
        return STOPPED
    if feed.spec.suspend:
        return "Suspended"
    if any(shard.part in state.failed for shard in plan.shards([feed])):
        return "Failed"
    states = {status.state for status in layers.values()}
    if QueryState.FAILED in states:
        return "Degraded"
    if len(shards) < desired or not states or {QueryState.STARTING, QueryState.WAITING} & states:
        return "Progressing"
    healthy = all(shard.connected and not shard.refused and not _undelivered(shard) for shard in shards)
    return "Running" if healthy else "Degraded"


def _message(
    state: State, parts: Iterable[str], shards: Sequence[ShardStatus], layers: Mapping[str, LayerStatus]
) -> str:
    messages = [state.failed[part] for part in parts if part in state.failed]
    for shard in shards:
        channel = "" if shard.channel == TRADES.name else f"{shard.channel}: "
        messages += [f"{channel}{shard.message}"] if shard.message and not shard.connected else []
        messages += [f"{channel}{symbol} is refused: {error}" for symbol, error in shard.refused.items()]
        messages += [f"{channel}{name} is {symbol.state}" for name, symbol in _undelivered(shard)]
    messages += [
        f"the clock is {shard.clock_offset_seconds:+.1f} s from {shard.exchange}'s"
        for shard in shards
        if shard.clock_wrong
    ]
    messages += [f"{layer}: {status.message}" for layer, status in layers.items() if status.message]
    return "; ".join(messages)


def _undelivered(shard: ShardStatus) -> list[tuple[str, SymbolStatus]]:
    """Return the symbols that the exchange trades but does not deliver."""
    states = {SymbolState.SILENT, SymbolState.UNANSWERED}
    return [(name, symbol) for name, symbol in shard.symbols.items() if symbol.state in states]


def _fetch(state: State, part: str, document: type[_Document]) -> _Document | None:
    """Return the `/status` of a process; None if it is not available."""
    port = state.ports.get(part)
    if port is None:
        return None
    try:
        with urlopen(f"http://{HOST}:{port}/status", timeout=_TIMEOUT) as response:
            return msgspec.json.decode(response.read(), type=document)
    except (URLError, OSError, HTTPException, msgspec.MsgspecError):
        return None
