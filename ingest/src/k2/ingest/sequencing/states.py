"""Sequencing of channels whose records change a state that the adapter keeps. Pure: times come with the records.

A loss begins when no connection has the whole state of a symbol any more, and ends with the first record that is part
of a whole one. It is a gap, from the last such record before to the first record after the loss; its changes never
come.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from k2.ingest.exchanges.base import NO_ID, Gap, SequencedRecord
from k2.ingest.sequencing.connection_order import ConnectionOrderTracker
from k2.ingest.sequencing.tracker import Finding, GapDetected, StateRestored
from k2.schemas.exchanges.spec import Pair
from k2.schemas.states import Verdict

_ENDED: Final = 5_000_000  # microseconds without a record after which another connection does not count any more


@dataclass(slots=True)
class _Symbol:
    connection: str  # which last had the whole state
    time: int  # of its last record, in UTC microseconds
    received: int
    interrupted: bool = False  # some time without a subscription
    gap: Gap | None = None  # since the state was lost


class StateTracker(ConnectionOrderTracker):
    """Find the losses of states, by the verdicts of the records."""

    def __init__(self) -> None:
        self._symbols: dict[str, _Symbol] = {}
        self._earlier: dict[str, list[Gap]] = {}  # gaps of an earlier process

    def on_disconnect(self, symbols: Iterable[str]) -> None:
        """Take note of a time without a subscription, unless another connection goes on."""
        for symbol in symbols:
            if (entry := self._symbols.get(symbol)) is not None:
                entry.interrupted = True

    def observe(self, pair: Pair, item: SequencedRecord) -> Finding | None:
        """Return a loss that begins with a record or ends with it."""
        record: Any = item.record  # with a verdict and a connection
        entry = self._symbols.get(pair.symbol)
        if record.verdict is Verdict.SUSPECT:
            return self._lost(pair, record, entry) if entry is not None and entry.gap is None else None
        if earlier := self._earlier.get(pair.symbol):
            gap = earlier.pop()
            return StateRestored(gap)
        self._symbols[pair.symbol] = _Symbol(record.connection, record.timestamp, record.ingestion_timestamp)
        if entry is None:
            return None
        if entry.gap is not None:
            return StateRestored(entry.gap)
        if entry.interrupted and entry.connection != record.connection:
            return GapDetected(_gap(pair, entry, record), over=True)
        return None

    def _lost(self, pair: Pair, record: Any, entry: _Symbol) -> Finding | None:
        elsewhere = record.connection != entry.connection and not entry.interrupted
        if elsewhere and record.ingestion_timestamp - entry.received < _ENDED:
            return None  # another connection has the state
        entry.gap = _gap(pair, entry, record)
        return GapDetected(entry.gap)

    def reopen(self, gap: Gap) -> None:
        """Take a gap of an earlier process: it ends with the first record of a whole state."""
        self._earlier.setdefault(gap.pair.symbol, []).append(gap)


def _gap(pair: Pair, entry: _Symbol, record: Any) -> Gap:
    return Gap(pair, NO_ID, NO_ID, entry.time, max(entry.time, record.timestamp), anchor=entry.connection)
