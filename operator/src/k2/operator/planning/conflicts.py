"""What belongs to one feed only: its name, topic and symbols. Of two that claim the same, the younger waits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from k2.common.validation_errors import InvalidSpec
from k2.operator.observed.objects import moment
from k2.schemas.feed.model import ExchangeFeed

_WRITTEN: Final = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True)
class Claimant:
    """A feed, which of the cluster's feeds it is, and what it claims."""

    feed: ExchangeFeed
    uid: str
    since: datetime
    topic: str
    symbols: frozenset[str]

    @classmethod
    def of(cls, feed: ExchangeFeed, body: Mapping[str, Any]) -> "Claimant":
        """The claimant of a live object."""
        about = body["metadata"]
        symbols = frozenset(pair.symbol for pair in feed.pairs)
        return cls(feed, about["uid"], moment(about["creationTimestamp"]), feed.topic, symbols)

    @property
    def place(self) -> str:
        """Its namespace and name."""
        return f"{self.feed.metadata.namespace}/{self.feed.name}"

    def older_than(self, other: "Claimant") -> bool:
        """Who came first. Creation times are whole seconds, so uids decide between equals, the same way each time."""
        return (self.since, self.uid) < (other.since, other.uid)

    def clashes(self, other: "Claimant") -> bool:
        """Whether both claim something."""
        if self.topic == other.topic or self.feed.name == other.feed.name:
            return True
        return self.feed.spec.exchange == other.feed.spec.exchange and not self.symbols.isdisjoint(other.symbols)


class Register:
    """Reads each of the cluster's feeds once, and again only when it is written anew: every round needs them all."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, Claimant | None]] = {}

    def claimants(self, feeds: Iterable[Mapping[str, Any]]) -> list[Claimant]:
        """The cluster's feeds that are written well enough to claim anything."""
        read = {raw["metadata"]["uid"]: self._read(raw) for raw in feeds}
        self._known = read
        return [found for _, found in read.values() if found is not None]

    def _read(self, raw: Mapping[str, Any]) -> tuple[Any, Claimant | None]:
        known = self._known.get(raw["metadata"]["uid"])
        # A uid never changes its name, its namespace or its age.
        if known is not None and known[0] == raw["spec"]:
            return known
        try:
            found = Claimant.of(ExchangeFeed.from_body({name: raw[name] for name in _WRITTEN}), raw)
        except InvalidSpec:
            return raw["spec"], None
        return raw["spec"], found


def claimants(feeds: Iterable[Mapping[str, Any]]) -> list[Claimant]:
    """The cluster's feeds that are written well enough to claim anything."""
    return _REGISTER.claimants(feeds)


def refusal(mine: Claimant, others: Iterable[Claimant]) -> str:
    """Why this feed must not run, and what to change; empty if nothing that it claims is an older feed's."""
    older = [other for other in others if other.uid != mine.uid and other.clashes(mine) and other.older_than(mine)]
    return _conflict(mine, min(older, key=lambda found: (found.since, found.uid))) if older else ""


def _conflict(mine: Claimant, owner: Claimant) -> str:
    if mine.topic == owner.topic:
        return f"topic {mine.topic} belongs to {owner.place}; set another spec.kafka.topic"
    if mine.feed.name == owner.feed.name:
        return f"checkpoints are kept by name, and {owner.place} has this one; create the feed under another name"
    shared = [pair.native for pair in mine.feed.pairs if pair.symbol in owner.symbols]
    more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    return f"{shared[0]}{more} of {owner.feed.spec.exchange} belongs to {owner.place}; remove it from spec.symbols"


_REGISTER: Final = Register()
