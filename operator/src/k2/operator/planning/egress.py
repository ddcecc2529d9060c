"""How many ingest processes reach an exchange from the same address as those of a feed."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from k2.operator.planning.conflicts import Claim
from k2.schemas.feed.model import ExchangeFeed

FeedKey = tuple[str, str]  # namespace and name

_NONE: Final[Mapping[FeedKey, int]] = MappingProxyType({})
_DEFAULT: Final = ""  # the group of every namespace that the settings do not list


def group(feed: ExchangeFeed, groups: Mapping[str, str]) -> str:
    """Return the egress group of a feed. `groups` are egress groups by namespace."""
    return groups.get(feed.metadata.namespace, _DEFAULT)


def processes(
    feed: ExchangeFeed, claims: Iterable[Claim], groups: Mapping[str, str], running: Mapping[FeedKey, int] = _NONE
) -> int:
    """Return the ingest processes of an exchange in a feed's egress group, its own included; at least 1.

    `groups` are egress groups by namespace, `running` the processes of feeds whose number their spec does not say.
    Feeds that wait because of a conflict are counted: they may start any time.
    """
    own = (feed.metadata.namespace, feed.name)
    return max(1, running.get(own, feed.ingest_processes())) + sum(
        running.get((claim.feed.metadata.namespace, claim.feed.name), claim.processes)
        for claim in claims
        if claim.feed.spec.exchange == feed.spec.exchange
        and group(claim.feed, groups) == group(feed, groups)
        and (claim.feed.metadata.namespace, claim.feed.name) != own
    )
