"""Changes of the number of shards, without a moment in which no process receives a symbol.

While the number changes, the symbols are spread by the number before and by the one after it: their processes run side
by side, and each symbol has one of either. When those of the new number have taken up all of their symbols, the old
number goes. What both publish meanwhile is de-duplicated, as of replicas. The numbers are in the feed's ConfigMap, so
that the processes follow them, and a restart of the operator loses nothing. All channels of a feed have the same
number, which changes for all of them at once. Pure.
"""

from collections.abc import Iterable
from typing import Final

from k2.operator.desired.naming import config_name, connections, shard_number
from k2.operator.observed import objects as parsers
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Observed, Shard
from k2.operator.planning.succession import PENDING
from k2.schemas import sharding
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.feed.shards import AUTO
from k2.schemas.sharding import Counts

_DEPLOYMENT: Final = "Deployment"


def live_counts(feed: ExchangeFeed, objects: FeedObjects) -> Counts:
    """Return by which numbers of shards a feed's symbols are spread now; none if that is not recorded."""
    config = objects.find("ConfigMap", config_name(feed))
    try:
        return sharding.decode((config or {}).get("data", {})[sharding.FILE])
    except (KeyError, sharding.UnreadableSharding):  # of an earlier version, or a user's edit
        numbers = [shard_number(raw) for raw in objects.of_kind(_DEPLOYMENT)]
        shards = [number for number in numbers if number is not None]
        return (max(shards) + 1,) if shards and feed.spec.ingest.shards == AUTO else ()


def next_counts(feed: ExchangeFeed, live: Counts, target: int, objects: FeedObjects, observed: Observed) -> Counts:
    """Return by which numbers of shards the symbols are to be spread.

    Args:
        feed: The validated feed.
        live: By which they are spread now.
        target: The number at the end.
        objects: The feed's live objects.
        observed: The parsed state of the feed, with what its pods report.

    """
    if not live or feed.spec.suspend:
        return (target,)
    before, *after = live
    if not after:
        return live if before == target else (before, target)
    if after != [target]:
        return (before,)  # its processes still carry everything
    return (target,) if _have_taken_over(feed, live, objects, observed) else live


def _have_taken_over(feed: ExchangeFeed, live: Counts, objects: FeedObjects, observed: Observed) -> bool:
    """Return whether the processes of the new number carry their symbols, and those that leave have no open gaps."""
    staying = {connection.name(feed) for connection in connections(feed, live[-1:])}
    leaving = [report for report in observed.shards if not any(report.pod.startswith(f"{name}-") for name in staying)]
    if any(report.open_gaps for report in leaving):
        return False  # their repairs would end with them
    return all(_carries(name, live, objects, observed.shards) for name in staying)


def _carries(name: str, live: Counts, objects: FeedObjects, reports: Iterable[Shard]) -> bool:
    raw = objects.find(_DEPLOYMENT, name)
    if raw is None or not (deployment := parsers.deployment(raw)).current:
        return False
    own = [report for report in reports if report.pod.startswith(f"{name}-") and report.counts == live]
    if own and not any(report.states for report in own):
        return True  # the exchange lists nothing for it, so it is not connected, nor ready
    ready = deployment.ready >= deployment.desired
    return ready and any(report.connected and not PENDING & set(dict(report.states)) for report in own)
