"""The gaps of one symbol in consecutive ids: what is missing of each, and the contents around them. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from k2.ingest.exchanges.base import NO_ID, Gap
from k2.ingest.sequencing.tracker import IdRange

_MOST_REVOCABLE: Final = 256  # gaps that are watched for ids that were never issued

Fingerprint = int


@dataclass(slots=True)
class OpenGap:
    """A gap and its missing ids, as disjoint inclusive ranges. A closed one is watched for ids never issued."""

    gap: Gap
    missing: list[IdRange]
    closed: bool = False
    neighbours: dict[int, Fingerprint] = field(default_factory=dict)  # contents of the records around it, by id

    def contains(self, number: int) -> bool:
        """Return whether an id is missing."""
        return any(low <= number <= high for low, high in self.missing)

    def fill(self, first: int, last: int) -> bool:
        """Remove ids `first` to `last`. Return whether any of them was missing."""
        rest: list[IdRange] = []
        for low, high in self.missing:
            if last < low or first > high:
                rest.append((low, high))
                continue
            if low < first:
                rest.append((low, first - 1))
            if high > last:
                rest.append((last + 1, high))
        changed = rest != self.missing
        self.missing = rest
        return changed


@dataclass(slots=True)
class OpenGaps:
    """All gaps of one symbol. Ids mean nothing without the listing."""

    entries: list[OpenGap] = field(default_factory=list)

    def open(self, gap: Gap, neighbours: Mapping[int, Fingerprint] | None = None) -> None:
        """Track a gap of which all ids are missing."""
        self.entries.append(OpenGap(gap, [(gap.first_id, gap.last_id)], neighbours=dict(neighbours or {})))

    def of_listing(self, listing: int) -> list[OpenGap]:
        """Return the gaps of a listing, closed ones that are watched included."""
        return [entry for entry in self.entries if entry.gap.listing == listing]

    def fill(self, listing: int, first: int, last: int) -> list[OpenGap]:
        """Remove ids from all gaps of a listing. Return those in which any of them was missing."""
        return [entry for entry in self.of_listing(listing) if entry.fill(first, last)]

    def forget_complete(self) -> None:
        """Stop tracking the gaps of which nothing is missing."""
        self.entries = [entry for entry in self.entries if entry.missing]

    def missing(self, gap: Gap, *, closed: bool = False) -> tuple[IdRange, ...]:
        """Return what is missing of a gap that is open, or closed and watched."""
        return tuple(
            ids for entry in self.entries if entry.gap == gap and entry.closed is closed for ids in entry.missing
        )

    def account(self, gap: Gap, first: int, last: int) -> None:
        """Take ids of one gap as received."""
        for entry in self.entries:
            if entry.gap == gap:
                entry.fill(first, last)

    def close(self, gap: Gap) -> None:
        """Stop tracking a gap."""
        self.entries = [entry for entry in self.entries if entry.gap != gap]

    def watch(self, gap: Gap, missing: Sequence[IdRange]) -> None:
        """Watch the ids of a closed gap that were never issued. The oldest such gap makes room for it."""
        self.close(gap)
        closed = [entry for entry in self.entries if entry.closed]
        if len(closed) >= _MOST_REVOCABLE:
            self.entries.remove(closed[0])
        self.entries.append(OpenGap(gap, list(missing), closed=True))

    def note_neighbour(self, listing: int, number: int, content: Fingerprint) -> None:
        """Keep the content of a record that stands next to a gap, by which pages of the history are recognised."""
        for entry in self.entries:
            if entry.gap.listing == listing and number in {entry.gap.first_id - 1, entry.gap.last_id + 1}:
                entry.neighbours[number] = content

    def neighbours(self, listing: int) -> set[int]:
        """Return the ids next to the open gaps of a listing whose content is known."""
        return {number for entry in self.of_listing(listing) if not entry.closed for number in entry.neighbours}

    def content_of(self, listing: int, number: int) -> Fingerprint | None:
        """Return the content of a record next to an open gap of a listing, if it is known."""
        entries = (entry for entry in self.of_listing(listing) if not entry.closed)
        return next((entry.neighbours[number] for entry in entries if number in entry.neighbours), None)

    def newest_known(self, gap: Gap, number: int, ids: Collection[int]) -> tuple[int, int] | None:
        """Return the newest of `ids` up to `number`, and the time at which the first gap between them began."""
        newest = max((recorded for recorded in ids if recorded <= number), default=NO_ID)
        if newest == NO_ID:
            return None
        gaps = [entry.gap for entry in self.of_listing(gap.listing) if not entry.closed]
        between = [other.since for other in gaps if newest < other.last_id and other.first_id <= number]
        return newest, min([gap.since, *between])
