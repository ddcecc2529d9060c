"""How many shards a feed with `ingest.shards: auto` is to have, by what its pods measure.

More when the busiest shard of any channel has had too much for a minute; one fewer when what would be left for each
has been little for ten minutes. All channels have the same number. Between the two lies a band in which nothing
changes, and after a change nothing changes for a while. A load that is not fully known changes nothing. Pure; the state
need not outlive the operator, whose restart only begins the times again.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from k2.operator.observed.objects import Shard
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.feed.shards import AUTO, Autoscale
from k2.schemas.sharding import Counts

CARRIED: Final = 5000.0  # messages per second that half a core carries: docs/benchmarks.md has 0.095 cores for 1,000
HIGH: Final = 0.7 * CARRIED  # of the busiest shard
AIM: Final = 0.55 * CARRIED  # of the busiest shard after there are more
LOW: Final = 0.4 * CARRIED  # of the busiest shard after there is one fewer
LATE: Final = 0.5  # seconds by which the event loop is late: the CPU does not suffice
PUNCTUAL: Final = 0.1
MORE_AFTER: Final = timedelta(minutes=1)
FEWER_AFTER: Final = timedelta(minutes=10)
COOL_DOWN: Final = timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class Load:
    """What one shard measures: messages per second, seconds by which its loop is late, and its number of symbols."""

    rate: float
    lag: float
    symbols: int


@dataclass(frozen=True, slots=True)
class Scale:
    """A number of shards, why it is that, and since when the load speaks for another one."""

    count: int
    reason: str = ""
    changed_at: datetime | None = None
    high_since: datetime | None = None
    low_since: datetime | None = None


def loads(feed: ExchangeFeed, counts: Counts, reports: Iterable[Shard]) -> tuple[Load, ...]:
    """Return the load of every shard of every channel, of the busier replica; nothing if any of them is not known."""
    by_shard: dict[tuple[str, int], list[Load]] = {
        (channel.name, shard): [] for channel in feed.channels for shard in feed.shards(counts)
    }
    for report in reports:
        key = (report.channel, int(report.shard.partition("-")[0]))
        if report.connected and report.counts == counts and key in by_shard:
            symbols = sum(number for _, number in report.states)
            by_shard[key].append(Load(report.rate, report.loop_lag, symbols))
    if not all(by_shard.values()):
        return ()
    return tuple(max(each, key=lambda load: (load.rate, load.lag)) for each in by_shard.values())


def decide(feed: ExchangeFeed, before: Scale | None, counts: Counts, measured: Sequence[Load], now: datetime) -> Scale:
    """Return how many shards a feed is to have.

    Args:
        feed: The validated feed.
        before: What was decided before; None after a start of the operator.
        counts: By which numbers of shards its symbols are spread now; none if it has no pods yet.
        measured: The load of every shard; nothing if it is not known.
        now: The time of this round.

    """
    if feed.spec.ingest.shards != AUTO or not counts:
        return Scale(feed.shard_count)
    bounds, current = feed.autoscale, counts[0]
    allowed = min(max(current, bounds.min), bounds.max)
    if allowed != current:
        return Scale(allowed, f"spec.ingest.autoscale allows {bounds.min} to {bounds.max}", now)
    state = before or Scale(counts[-1])
    if len(counts) > 1:
        return Scale(state.count, state.reason, now)
    if not measured:
        return Scale(current, state.reason, state.changed_at)
    return _by_load(state, current, bounds, measured, now)


def _by_load(state: Scale, current: int, bounds: Autoscale, measured: Sequence[Load], now: datetime) -> Scale:
    busiest, lag = max(load.rate for load in measured), max(load.lag for load in measured)
    is_high = current < bounds.max and any(_is_too_much(load) for load in measured)
    is_low = current > bounds.min and lag < PUNCTUAL and busiest * current / (current - 1) < LOW
    high_since = (state.high_since or now) if is_high else None
    low_since = (state.low_since or now) if is_low else None
    count, reason = current, ""
    if state.changed_at is None or now - state.changed_at >= COOL_DOWN:
        if high_since and now - high_since >= MORE_AFTER:
            count = min(max(current + 1, math.ceil(current * busiest / AIM)), 2 * current, bounds.max)
            reason = f"the busiest shard has {busiest:.0f} messages/s, and its event loop is {lag:.1f} s late"
        elif low_since and now - low_since >= FEWER_AFTER:
            count, reason = current - 1, f"the busiest shard has only {busiest:.0f} messages/s"
    return Scale(count, reason, state.changed_at, high_since, low_since)


def _is_too_much(load: Load) -> bool:
    """Whether a shard has too much to do, and symbols that it could give to others."""
    return load.symbols > 1 and (load.rate > HIGH or load.lag > LATE)
