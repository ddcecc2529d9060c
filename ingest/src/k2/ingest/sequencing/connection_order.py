"""Sequencing of channels whose adapter judges the continuity of each connection itself: nothing is tracked here."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from k2.ingest.exchanges.base import Gap, SequencedRecord
from k2.ingest.sequencing.tracker import (
    Coverage,
    Duplicate,
    Finding,
    GapDetected,
    IdRange,
    Position,
    WithoutConsecutiveIds,
)
from k2.schemas.exchanges.spec import Pair


class ConnectionOrderTracker(WithoutConsecutiveIds):
    """Find nothing: every record is expected, and no gap can be named by an id."""

    listings: Mapping[str, int] = MappingProxyType({})  # there are no ids that could restart

    def resume(self, pair: Pair, position: Position, waiting: Sequence[str] = ()) -> None:
        """Do nothing: a connection starts with a snapshot."""

    def on_disconnect(self, symbols: Iterable[str]) -> None:
        """Do nothing: the next connection starts with a snapshot."""

    def observe(self, pair: Pair, item: SequencedRecord) -> Finding | None:
        """Return None: the record carries the adapter's verdict."""
        return None

    def settle(self, pair: Pair, item: SequencedRecord) -> Finding:
        """Return a duplicate: nothing is ever suspended."""
        return Duplicate()

    def skip(self, pair: Pair, last_id: int, received: int) -> Finding | None:
        """Return None: there are no ids."""
        return None

    def observe_head(self, symbol: str, newest_id: int, received: int) -> GapDetected | None:
        """Return None: there are no ids."""
        return None

    def missing(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return nothing: no gap is opened."""
        return ()

    def fill(self, gap: Gap, item: SequencedRecord) -> bool:
        """Return True: nothing is known to have arrived."""
        return True

    def coverage(self, gap: Gap, row_ids: Sequence[str]) -> Coverage:
        """Return nothing proved: no gap is opened."""
        return Coverage(overlaps=False, reaches=False, complete=True)

    def close(self, gap: Gap) -> tuple[IdRange, ...]:
        """Return nothing: no gap is opened."""
        return ()

    def reopen(self, gap: Gap) -> None:
        """Do nothing: no gap is opened."""
