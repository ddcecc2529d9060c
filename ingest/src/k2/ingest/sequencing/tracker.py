"""The tracker protocol and its findings: what sequencing reports about each record. Pure values, no clock."""

from dataclasses import dataclass
from typing import Protocol

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
    """A gap before the observed record."""

    gap: Gap


@dataclass(frozen=True, slots=True)
class GapFilled:
    """A late record that belongs to an open gap; `closed` are the gaps it completed."""

    closed: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class SequenceReset:
    """The exchange restarted its numbering; `previous` was the last id of the old sequence."""

    previous: int


Finding = Duplicate | Conflict | GapDetected | GapFilled | SequenceReset


@dataclass(frozen=True, slots=True)
class Position:
    """The newest record of a symbol in Kafka: its id and its exchange time in UTC microseconds."""

    record_id: str
    timestamp: int


class Tracker(Protocol):
    """Detects gaps and duplicates, for exchanges with and without ids."""

    def resume(self, pair: Pair, position: Position) -> None:
        """Continue after the last record that an earlier process delivered."""

    def on_disconnect(self) -> None:
        """Record that a connection ended."""

    def observe(self, pair: Pair, item: SequencedRecord) -> Finding | None:
        """Take the next record. Return what it reveals; None if it is the expected next one."""

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Take the id of a dead letter, so that it does not count as missing. Return a gap before it."""

    def observe_head(self, symbol: str, newest_id: int, received: int) -> GapDetected | None:
        """Take the id that the exchange reports as its newest. Return the gap up to and including it."""

    def missing(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return the id ranges of a gap that have not arrived; empty once it is complete."""
        ...

    def fill(self, gap: Gap, item: SequencedRecord) -> bool:
        """Take a backfilled record. Return False if it had arrived in the meantime."""
        ...

    def close(self, gap: Gap) -> tuple[IdRange, ...]:
        """Stop tracking a gap. Return the id ranges that never arrived."""
        ...

    def reopen(self, gap: Gap) -> None:
        """Track a gap that an earlier process detected and did not close."""
