"""What belongs to one feed only: its name, topic and symbols. Of two that claim the same, the younger waits."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from k2.operator.observed import moment
from k2.schemas.feed import ExchangeFeed
from k2.schemas.problems import InvalidSpec

_WRITTEN: Final = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True)
class Claimant:
    """A feed, and which of the cluster's feeds it is."""

    feed: ExchangeFeed
    created: str
    uid: str

    @classmethod
    def of(cls, feed: ExchangeFeed, body: Mapping[str, Any]) -> "Claimant":
        """The claimant of a live object."""
        return cls(feed, body["metadata"]["creationTimestamp"], body["metadata"]["uid"])

    @property
    def place(self) -> str:
        """Its namespace and name."""
        return f"{self.feed.metadata.namespace}/{self.feed.name}"

    def older_than(self, other: "Claimant") -> bool:
        """Who came first. Creation times are whole seconds, so uids decide between equals, the same way each time."""
        return (moment(self.created), self.uid) < (moment(other.created), other.uid)


def claimants(feeds: Iterable[Mapping[str, Any]]) -> Iterator[Claimant]:
    """The cluster's feeds that are written well enough to claim anything."""
    for raw in feeds:
        try:
            yield Claimant.of(ExchangeFeed.from_body({name: raw[name] for name in _WRITTEN}), raw)
        except InvalidSpec:
            continue


def refusal(mine: Claimant, others: Iterable[Claimant]) -> str:
    """Why this feed must not run, and what to change; empty if nothing that it claims is an older feed's."""
    older = [other for other in others if other.uid != mine.uid and other.older_than(mine)]
    for other in sorted(older, key=lambda found: (moment(found.created), found.uid)):
        if said := _conflict(mine.feed, other):
            return said
    return ""


def _conflict(feed: ExchangeFeed, owner: Claimant) -> str:
    theirs = owner.feed
    if feed.topic == theirs.topic:
        return f"topic {feed.topic} belongs to {owner.place}; set another spec.kafka.topic"
    if feed.name == theirs.name:
        return f"checkpoints are kept by name, and {owner.place} has this one; create the feed under another name"
    if feed.spec.exchange == theirs.spec.exchange:
        taken = {pair.symbol for pair in theirs.pairs}
        if shared := [pair.native for pair in feed.pairs if pair.symbol in taken]:
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            return f"{shared[0]}{more} of {theirs.spec.exchange} belongs to {owner.place}; remove it from spec.symbols"
    return ""
