"""Conflicts between feeds. A name, a topic and an exchange's symbol belong to one feed; the older feed wins."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from k2.common.validation_errors import InvalidSpec
from k2.operator.observed.objects import K8sObject, parse_time
from k2.schemas.channels import CHANNELS
from k2.schemas.feed.model import ExchangeFeed

_USER_FIELDS: Final = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True)
class Claim:
    """What one live feed of the cluster claims."""

    feed: ExchangeFeed
    uid: str
    since: datetime
    topics: frozenset[str]  # of all channels: one that the feed does not record has been, or may be added
    symbols: frozenset[str]
    processes: int  # of its ingest

    @classmethod
    def of(cls, feed: ExchangeFeed, body: Mapping[str, Any]) -> "Claim":
        """Build the claim of a live object."""
        metadata = body["metadata"]
        symbols = frozenset(name.symbol for name in feed.names)
        topics = frozenset(feed.topic(channel) for channel in CHANNELS)
        return cls(
            feed, metadata["uid"], parse_time(metadata["creationTimestamp"]), topics, symbols, feed.ingest_processes()
        )

    @property
    def location(self) -> str:
        """The feed's namespace and name."""
        return f"{self.feed.metadata.namespace}/{self.feed.name}"

    @property
    def selects(self) -> bool:
        """Whether the feed follows the exchange's list, and so may have any of its symbols."""
        return self.feed.spec.symbol_selector is not None

    def older_than(self, other: "Claim") -> bool:
        """Return whether this feed takes precedence. Creation times are whole seconds, so uids break ties."""
        return (self.since, self.uid) < (other.since, other.uid)

    def conflicts_with(self, other: "Claim") -> bool:
        """Return whether both feeds claim the same name, topic or symbol."""
        if not self.topics.isdisjoint(other.topics) or self.feed.name == other.feed.name:
            return True
        if self.feed.spec.exchange != other.feed.spec.exchange:
            return False
        return self.selects or other.selects or not self.symbols.isdisjoint(other.symbols)


def parse_feed(body: K8sObject) -> ExchangeFeed:
    """Validate a live ExchangeFeed; raises `InvalidSpec`. Fields that users do not write are left out."""
    return ExchangeFeed.from_body({name: body[name] for name in _USER_FIELDS})


class ClaimCache:
    """Parses each feed once, and again only when its spec changes: every round needs all of them."""

    def __init__(self) -> None:
        self._parsed: dict[str, tuple[Any, Claim | None]] = {}

    def claims(self, feeds: Iterable[K8sObject]) -> list[Claim]:
        """Return the claims of the cluster's valid feeds. An invalid feed claims nothing."""
        self._parsed = {raw["metadata"]["uid"]: self._parse(raw) for raw in feeds}
        return [claim for _, claim in self._parsed.values() if claim is not None]

    def _parse(self, raw: K8sObject) -> tuple[Any, Claim | None]:
        # The name, namespace and age of a uid never change.
        cached = self._parsed.get(raw["metadata"]["uid"])
        if cached is not None and cached[0] == raw["spec"]:
            return cached
        try:
            return raw["spec"], Claim.of(parse_feed(raw), raw)
        except InvalidSpec:
            return raw["spec"], None


def conflict_message(own: Claim, others: Iterable[Claim]) -> str:
    """Return why this feed must not run and what to change; empty if it conflicts with no older feed."""
    older = [other for other in others if other.uid != own.uid and other.conflicts_with(own) and other.older_than(own)]
    return _describe(own, min(older, key=lambda claim: (claim.since, claim.uid))) if older else ""


def _describe(own: Claim, owner: Claim) -> str:
    names = (own.feed.topic(channel) for channel in CHANNELS)
    if topic := next((name for name in names if name in owner.topics), ""):
        return f"topic {topic} belongs to {owner.location}; create this feed again with another spec.kafka.topic"
    if own.feed.name == owner.feed.name:
        return (
            f"the name {own.feed.name} is used by {owner.location}, and checkpoints are stored by name; "
            "create the feed under another name"
        )
    if own.selects or owner.selects:
        return (
            f"{owner.location} is of {owner.feed.spec.exchange} too, and a feed with symbolSelector must be the only "
            "one of its exchange; list the symbols of both"
        )
    shared = [name.raw_symbol for name in own.feed.names if name.symbol in owner.symbols]
    more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    return f"{shared[0]}{more} of {owner.feed.spec.exchange} belongs to {owner.location}; remove it from spec.symbols"
