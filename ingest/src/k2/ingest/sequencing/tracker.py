"""The tracker protocol and its findings: what sequencing reports about each record. Pure values, no clock."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from k2.ingest.exchanges.base import Gap, SequencedRecord
from k2.schemas.exchanges.spec import Pair

IdRange = tuple[int, int]  # first and last id, inclusive


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A record that was received before with the same content."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """An id that was received before with other content."""


@dataclass(frozen=True, slots=True)
class GapDetected:
    """A gap before the observed record; `over`: nothing more is expected of it, the record begins a new state."""

    gap: Gap
    over: bool = False


@dataclass(frozen=True, slots=True)
class StateRestored:
    """The observed record begins a new state, which ends a gap whose changes never come."""

    gap: Gap


@dataclass(frozen=True, slots=True)
class GapFilled:
    """A late record that belongs to a gap; `closed` are the gaps it completed.

    `revoked` are gaps that it did not complete and whose ids were judged as never issued.
    """

    closed: tuple[Gap, ...]
    revoked: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Suspended:
    """A record that may belong to the symbol's next listing, or far ahead; later records prove or disprove it.

    `begins` says that the records suspended before it are none: it is the first of its own run.
    """

    begins: bool


@dataclass(frozen=True, slots=True)
class SequenceReset:
    """The exchange restarted its numbering with the suspended records; this one proves it.

    `previous` was the last id of the old sequence, `listing` is the number of the listing that began. None of the
    suspended records, and not this one either, is tracked yet: all are to be observed again, in order.
    """

    previous: int
    listing: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """A record of the listing before the current one, which arrived late."""


@dataclass(frozen=True, slots=True)
class SequenceJump:
    """The sequence goes on far from its last id, with the suspended records; this one proves it.

    `previous` was the last id, `first` is the first of the suspended ones. Ahead of it, the ids in between are missing.
    Below it, the last id was wrong. None of the suspended records, and not this one either, is tracked yet: all are to
    be observed again, in order.
    """

    previous: int
    first: int


@dataclass(frozen=True, slots=True)
class Misnumbered:
    """An id further ahead of the last one than the symbol can have traded since, on which no others followed."""


Finding = (
    Duplicate
    | Conflict
    | GapDetected
    | StateRestored
    | GapFilled
    | Suspended
    | SequenceReset
    | SequenceJump
    | Superseded
    | Misnumbered
)


@dataclass(frozen=True, slots=True)
class Position:
    """The newest record of a symbol in Kafka: its id, its exchange time in UTC microseconds, and its listing."""

    record_id: str
    timestamp: int
    listing: int = 1


class Coverage(NamedTuple):
    """What the ids of a page's rows say of a window: whether the page has its begin, its end, and what lies between."""

    overlaps: bool
    reaches: bool
    complete: bool


class Tracker(Protocol):
    """Detects gaps, duplicates and listings, for exchanges with and without ids."""

    @property
    def listings(self) -> Mapping[str, int]:
        """The number of each symbol's current listing, of those symbols whose first it is not. Always the same map."""
        ...

    def resume(self, pair: Pair, position: Position, waiting: Sequence[str] = ()) -> None:
        """Continue after the newest record that any process delivered, or after a newer one that this one did.

        `waiting` are the ids of records that this process received and did not observe yet, in order.
        """

    def on_disconnect(self, symbols: Iterable[str]) -> None:
        """Record that the subscriptions of some symbols ended, or their connection."""

    def observe(self, pair: Pair, item: SequencedRecord) -> Finding | None:
        """Take the next record. Return what it reveals; None if it is the expected next one."""

    def settle(self, pair: Pair, item: SequencedRecord) -> Finding:
        """Take a suspended record that begins no new sequence. Return what it is in the current one."""
        ...

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Take the id of a dead letter, so that it does not count as missing. Return a gap before it.

        Returns `Suspended` for an id that may belong to the symbol's next listing: it is to be taken again after that
        began.
        """

    def observe_head(self, symbol: str, newest_id: int, received: int) -> GapDetected | Misnumbered | None:
        """Take the id that the exchange reports as its newest. Return the gap up to and including it.

        An id too far ahead is `Misnumbered`, and changes nothing.
        """

    def missing(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return the id ranges of a gap that have not arrived; empty once it is complete."""
        ...

    def fill(self, gap: Gap, item: SequencedRecord) -> bool:
        """Take a backfilled record. Return False if it had arrived in the meantime."""
        ...

    def coverage(self, gap: Gap, row_ids: Sequence[str]) -> Coverage:
        """Return what the ids of a page's rows say of a window."""
        ...

    def knows(self, gap: Gap, number: int) -> bool:
        """Return whether the content of the record with an id next to a gap is known."""
        ...

    def known_before(self, gap: Gap, number: int, but: Collection[int] = ()) -> tuple[int, int] | None:
        """Return the newest id up to `number`, none of `but`, whose content is known, and a time near its record.

        The time is not after it where only missing ids lie between. Returns None if there is no such id.
        """
        ...

    def known_after(self, gap: Gap, number: int, but: Collection[int] = ()) -> int | None:
        """Return the lowest id from `number` on, none of `but`, whose content is known; None if there is none."""
        ...

    def matches(self, gap: Gap, item: SequencedRecord) -> bool | None:
        """Return whether the id of a backfilled record arrived with the same content; None if that is not known."""
        ...

    def account(self, gap: Gap, first_id: int, last_id: int) -> None:
        """Take the ids of a gap that only came as dead letters, so that they do not count as missing."""

    def keep_revocable(self, gap: Gap, missing: Sequence[IdRange]) -> None:
        """Watch ids of a closed gap that were judged as never issued: a record with one of them revokes that."""

    def unissued(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return the id ranges of a gap that are judged as never issued and have not come."""
        ...

    def close(self, gap: Gap) -> tuple[IdRange, ...]:
        """Stop tracking a gap. Return the id ranges that never arrived."""
        ...

    def reopen(self, gap: Gap) -> None:
        """Track a gap that an earlier process detected and did not close."""


class WithoutConsecutiveIds:
    """The answers of a tracker whose records have no place in a sequence of ids."""

    def knows(self, gap: Gap, number: int) -> bool:
        """Return False: no id belongs to a place in a sequence."""
        return False

    def known_before(self, gap: Gap, number: int, but: Collection[int] = ()) -> tuple[int, int] | None:
        """Return None: no id belongs to a place in a sequence."""
        return None

    def known_after(self, gap: Gap, number: int, but: Collection[int] = ()) -> int | None:
        """Return None: no id belongs to a place in a sequence."""
        return None

    def matches(self, gap: Gap, item: SequencedRecord) -> bool | None:
        """Return None: no id belongs to a place in a sequence."""
        return None

    def account(self, gap: Gap, first_id: int, last_id: int) -> None:
        """Do nothing: there are no consecutive ids."""

    def keep_revocable(self, gap: Gap, missing: Sequence[IdRange]) -> None:
        """Do nothing: there are no consecutive ids."""

    def unissued(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return nothing: there are no consecutive ids."""
        return ()
