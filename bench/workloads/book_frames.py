"""Recorded changes of Binance's order books, as a stream that begins with a state and may be repeated."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from bench.harness.processes import BenchFailed
from bench.workloads.frames import FILES, SYMBOLS
from k2.ingest.simulator.capture import frames

_CHANGE: Final = re.compile(
    rb'(\{"stream":"\w+@depth@100ms","data":\{"e":"depthUpdate","E":\d+,"s":"\w+",)"U":(\d+),"u":(\d+)(,"b":.*\}\})'
)
_MOST_LEVELS: Final = 500  # of a frame that leads back to the beginning

Side = dict[str, str]  # quantity by price, as the exchange writes them


@dataclass(frozen=True, slots=True)
class RecordedChange:
    """One change: the time of its receipt in seconds, the ids of its updates, and its JSON around them."""

    at: float
    symbol: str
    first: int
    last: int
    head: bytes
    tail: bytes

    @property
    def levels(self) -> int:
        """The number of changed levels."""
        return self.tail.count(b'["')

    def frame(self, offset: int) -> bytes:
        """Return the frame with higher ids."""
        return b'%b"U":%d,"u":%d%b' % (self.head, self.first + offset, self.last + offset, self.tail)


@dataclass(frozen=True, slots=True)
class Sent:
    """One frame that is sent: its time in seconds, its symbol, the id of its last update, and its changed levels."""

    at: float
    symbol: str
    last: int
    levels: int
    frame: bytes


class BookRecording:
    """The changes of one symbol after the state that the REST API gave, in the order of their receipt."""

    def __init__(self, symbol: str, state: Any, changes: Sequence[RecordedChange]) -> None:
        self.symbol = symbol
        self._state = state
        self.changes = [change for change in changes if change.last > state["lastUpdateId"]]

    def state(self, before: int) -> bytes:
        """Return the REST API's answer before the change with this index."""
        bids, asks, last = self._book(before)
        document = {"lastUpdateId": last, "bids": list(bids.items()), "asks": list(asks.items())}
        return json.dumps(document, separators=(",", ":")).encode()

    def lap(self, number: int) -> Iterator[Sent]:
        """Yield all changes, with ids that follow those of the lap before, and what leads back to the beginning."""
        way_back = self._way_back()
        ids = self.changes[-1].last - self._state["lastUpdateId"] + len(way_back)
        seconds = self.changes[-1].at - self.changes[0].at + 0.1
        for change in (*self.changes, *way_back):
            last = change.last + number * ids
            at = change.at - self.changes[0].at + number * seconds
            yield Sent(at, self.symbol, last, change.levels, change.frame(number * ids))

    def between(self, start: float, end: float) -> tuple[bytes, list[Sent]]:
        """Return the state at a time, and the changes from then on, with times from 0."""
        first = next(index for index, change in enumerate(self.changes) if change.at >= start)
        changes = [change for change in self.changes[first:] if change.at < end]
        return self.state(first), [
            Sent(change.at - start, self.symbol, change.last, change.levels, change.frame(0)) for change in changes
        ]

    def _book(self, before: int) -> tuple[Side, Side, int]:
        bids, asks = dict(self._state["bids"]), dict(self._state["asks"])
        for change in self.changes[:before]:
            data = json.loads(change.frame(0))["data"]
            for side, levels in ((bids, data["b"]), (asks, data["a"])):
                side.update(levels)
                for price, quantity in levels:
                    if not Decimal(quantity):
                        del side[price]
        return bids, asks, self.changes[before - 1].last if before else self._state["lastUpdateId"]

    def _way_back(self) -> list[RecordedChange]:
        """Return the changes from the last state to the first: deletions, and then the levels of the first."""
        newest, head = self.changes[-1], self.changes[-1].head
        bids, asks, last = self._book(len(self.changes))
        old = [[("b", [price, "0.00000000"]) for price in bids], [("a", [price, "0.00000000"]) for price in asks]]
        new = [[("b", level) for level in self._state["bids"]], [("a", level) for level in self._state["asks"]]]
        levels = [*old[0], *old[1], *new[0], *new[1]]
        changes = []
        for start in range(0, len(levels), _MOST_LEVELS):
            part = levels[start : start + _MOST_LEVELS]
            sides = {name: [level for side, level in part if side == name] for name in "ba"}
            last += 1
            tail = b"," + json.dumps(sides, separators=(",", ":")).encode()[1:] + b"}"
            changes.append(RecordedChange(newest.at + 0.05, self.symbol, last, last, head, tail))
        return changes


def load() -> list[BookRecording]:
    """Load the recordings from the folder K2_CAPTURES. Raises `BenchFailed` without them."""
    folder = Path(os.environ.get("K2_CAPTURES", "/nonexistent"))
    files = [folder / name for name in FILES]
    if not all(file.exists() for file in files):
        raise BenchFailed("K2_CAPTURES names no folder with the recorded frames of Binance")
    return [_recording(symbol, file) for symbol, file in zip(SYMBOLS, files, strict=True)]


def _recording(symbol: str, file: Path) -> BookRecording:
    changes, states = [], []
    for at, frame in frames(file):
        if match := _CHANGE.fullmatch(frame):
            changes.append(RecordedChange(at, symbol, int(match[2]), int(match[3]), match[1], match[4]))
        elif frame.startswith(b'{"lastUpdateId"'):
            states.append(json.loads(frame))
    return BookRecording(symbol, states[0], changes)


def repeated(recordings: Sequence[BookRecording], laps: int) -> tuple[dict[str, bytes], list[Sent]]:
    """Return the first states, and the changes of so many laps of all symbols in the order of their times."""
    sent = [each for recording in recordings for number in range(laps) for each in recording.lap(number)]
    return {one.symbol: one.state(0) for one in recordings}, sorted(sent, key=lambda each: each.at)


def busiest(recordings: Sequence[BookRecording], seconds: float, lead: float) -> tuple[dict[str, bytes], list[Sent]]:
    """Return the busiest time range of so many seconds, with `lead` seconds before it, and the states before that."""
    changes = sorted((change for one in recordings for change in one.changes), key=lambda change: change.at)
    begin = max(one.changes[0].at for one in recordings) + lead
    starts = [change.at for change in changes if begin <= change.at <= changes[-1].at - seconds]
    start = max(starts, key=lambda at: sum(one.levels for one in changes if at <= one.at < at + seconds)) - lead
    parts = {one.symbol: one.between(start, start + lead + seconds) for one in recordings}
    sent = sorted((each for _, part in parts.values() for each in part), key=lambda each: each.at)
    return {symbol: state for symbol, (state, _) in parts.items()}, sent
