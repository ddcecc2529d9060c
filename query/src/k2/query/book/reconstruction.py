"""Rebuild the order book of one symbol at an instant from its stored rows: the last whole snapshot, then its deltas.

A connection's messages count in the order of their ordinals, up to the first that is later than the instant. Pure
functions of rows; no table and no clock here. Prices and quantities are exact: integers in units of 10**-12.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from functools import cache, reduce
from typing import TYPE_CHECKING, Final

from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from k2.schemas.values import SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

Levels = tuple[tuple[int, int], ...]  # price and quantity, in units of 10**-12, best first

_ENDED: Final = timedelta(seconds=30)
_SEVERITY: Final = {verdict: rank for rank, verdict in enumerate(Verdict)}


class InexactLevel(ValueError):
    """A price or quantity is finer than 10**-12."""


@dataclass(frozen=True, slots=True)
class BookMessage:
    """One row of `gold_crypto_book`: a delta, or a part of a snapshot. Levels are in units of the powers of ten."""

    time: datetime  # the exchange's, or that of arrival
    kind: BookKind
    part: int
    parts: int
    first_id: int | None
    last_id: int | None
    previous_id: int | None
    bids: Levels
    asks: Levels
    price_exponent: int
    quantity_exponent: int
    connection: str
    ordinal: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Book:
    """A book at an instant.

    Args:
        time: The time of the last message that it includes.
        snapshot_time: The time of the snapshot that it stands on.
        bids: All levels, best first.
        asks: All levels, best first.
        verdict: The worst of the messages that it stands on; suspect too where ids show that one is missing.
        connections: Those whose messages it stands on; more than one if it is merged.
        last_id: The exchange's id of its state, where there are ids.

    """

    time: datetime
    snapshot_time: datetime
    bids: Levels
    asks: Levels
    verdict: Verdict
    connections: tuple[str, ...]
    last_id: int | None

    def top(self, depth: int | None) -> Book:
        """Return the book with at most so many levels of each side; None: all."""
        return self if depth is None else replace(self, bids=self.bids[:depth], asks=self.asks[:depth])


_Group = tuple[BookMessage, ...]  # a delta, or all parts of a snapshot
_Ids = tuple[int | None, int | None, int | None]  # first, last and previous


def books_at(
    rows: Iterable[BookMessage], instants: Iterable[datetime], *, shared_ids: bool = False
) -> Iterator[Book | None]:
    """Yield the book of one symbol of one exchange at each of some ascending instants; None before the first snapshot.

    Each connection's messages give a book. With `shared_ids`, the ids of a state are the same on every connection, and
    the messages of all connections together give one more (`_Merged`). The best verdict wins, then the newest message.
    Raises `InexactLevel`.
    """
    by_connection: dict[str, list[BookMessage]] = defaultdict(list)
    for row in rows:
        by_connection[row.connection].append(row)
    streams = [sorted(stream, key=lambda row: row.ordinal) for stream in by_connection.values()]
    merged = shared_ids and len(streams) > 1 and all(row.last_id is not None for stream in streams for row in stream)
    singles = [ConnectionBook() for _ in streams]
    together = _Merged() if merged else None
    read = [0] * len(streams)
    for instant in instants:
        for place, stream in enumerate(streams):
            while read[place] < len(stream) and stream[read[place]].time <= instant:
                group = singles[place].add(stream[read[place]])
                if group and together is not None:
                    together.add(group)
                read[place] += 1
        states: list[ConnectionBook | _Merged] = [*singles, *([together] if together is not None else [])]
        books = [book for state in states if (book := state.book()) is not None]
        yield preferred(books)


def newest_states(rows: Iterable[BookMessage]) -> dict[str, tuple[int, Book]]:
    """Return the book after each connection's last row, with the row's ordinal, by connection.

    A connection without a whole snapshot, or that has ended (`without_ended`), has none. Raises `InexactLevel`.
    """
    books: dict[str, ConnectionBook] = defaultdict(ConnectionBook)
    for row in sorted(rows, key=lambda row: row.ordinal):
        books[row.connection].add(row)
    states = {name: (each.ordinal, book) for name, each in books.items() if (book := each.book()) is not None}
    current = without_ended({name: book for name, (_, book) in states.items()})
    return {name: states[name] for name in current}


def without_ended(books: Mapping[str, Book]) -> dict[str, Book]:
    """Return the books of connections that heard something in the last 30 seconds in which one of them did.

    The names of connections do not say which of them still exist. A book that was verified when its connection ended
    must not be preferred to one that is not, but goes on.
    """
    newest = max((book.time for book in books.values()), default=None)
    return {name: book for name, book in books.items() if newest is None or book.time >= newest - _ENDED}


def preferred(books: Iterable[Book]) -> Book | None:
    """Return the book with the best verdict, of these the newest; None of none."""
    return min(books, key=_preference, default=None)


def _preference(book: Book) -> tuple[int, float]:
    return _SEVERITY[book.verdict], -book.time.timestamp()


class _Levels:
    """The levels of a book by price, and what it stands on."""

    def __init__(self, snapshot: _Group) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.snapshot_time = self.time = snapshot[0].time
        self.last_id = snapshot[-1].last_id
        self.connections: set[str] = set()
        for part in snapshot:
            self.apply(part)

    def apply(self, message: BookMessage) -> None:
        """Set the levels of a message; a quantity of 0 deletes, also levels that the snapshot does not reach."""
        prices, quantities = _factor(message.price_exponent), _factor(message.quantity_exponent)
        for side, levels in ((self.bids, message.bids), (self.asks, message.asks)):
            for price, quantity in levels:
                if quantity:
                    side[_exact(price * prices)] = _exact(quantity * quantities)
                else:
                    side.pop(_exact(price * prices), None)
        self.time = max(self.time, message.time)
        self.last_id = message.last_id
        self.connections.add(message.connection)

    def book(self, verdict: Verdict) -> Book:
        """Return the book; a crossed one is suspect, whatever the messages say."""
        bids, asks = sorted(self.bids.items(), reverse=True), sorted(self.asks.items())
        if bids and asks and bids[0][0] >= asks[0][0]:
            verdict = Verdict.SUSPECT
        connections = tuple(sorted(self.connections))
        return Book(self.time, self.snapshot_time, tuple(bids), tuple(asks), verdict, connections, self.last_id)


class ConnectionBook:
    """The book of one connection, message by message in the order of their ordinals."""

    def __init__(self) -> None:
        self.ordinal = 0  # of the last message
        self._parts: list[BookMessage] = []
        self._levels: _Levels | None = None
        self._verdict = Verdict.VERIFIED

    def add(self, message: BookMessage) -> _Group | None:
        """Add the next message; return it, or the snapshot that it completes, or None."""
        self.ordinal = message.ordinal
        if message.kind is BookKind.SNAPSHOT:
            return self._add_part(message)
        if self._parts:
            self._lose_parts()
        if self._levels is not None and not _is_stale(message, self._levels.last_id):
            if not _joins(message, self._levels.last_id):
                self._verdict = Verdict.SUSPECT
            self._levels.apply(message)
            self._verdict = _worse(self._verdict, message.verdict)
        return (message,)

    def book(self) -> Book | None:
        """Return the book; None before the first whole snapshot."""
        return None if self._levels is None else self._levels.book(self._verdict)

    def _add_part(self, message: BookMessage) -> _Group | None:
        if message.part != len(self._parts) + 1:
            self._lose_parts()
        if message.part == len(self._parts) + 1:
            self._parts.append(message)
        if len(self._parts) < message.parts:
            return None
        snapshot, self._parts = tuple(self._parts), []
        self._levels = _Levels(snapshot)
        self._verdict = reduce(_worse, (part.verdict for part in snapshot))
        return snapshot

    def _lose_parts(self) -> None:
        """Give up a snapshot of which a part is missing: what follows it does not follow the book before."""
        self._parts = []
        self._verdict = Verdict.SUSPECT


class _Merged:
    """The book of all connections together: from the newest snapshot that is not suspect, by the exchange's ids.

    A message that one connection lost is taken from another one. Ids prove that no change is missing, so the verdict of
    a chain without a break is that of its snapshot. After a break nothing is applied, and the book is suspect.
    """

    def __init__(self) -> None:
        self._levels: _Levels | None = None
        self._verdict = Verdict.VERIFIED
        self._pending: dict[_Ids, BookMessage] = {}
        self._applied: set[_Ids] = set()  # an exchange may begin its ids again, so they are not stale by number alone

    def add(self, group: _Group) -> None:
        """Add a message, or a whole snapshot, of any connection."""
        head = group[0]
        if head.kind is BookKind.DELTA:
            ids = head.first_id, head.last_id, head.previous_id
            if ids not in self._applied:
                self._pending.setdefault(ids, head)
            return
        verdict = reduce(_worse, (part.verdict for part in group))
        self._advance()
        if verdict is Verdict.SUSPECT or (self._levels is not None and not self._is_newer(head)):
            return
        self._levels, self._verdict = _Levels(group), verdict

    def book(self) -> Book | None:
        """Return the book; None before the first snapshot that is not suspect."""
        self._advance()
        if self._levels is None:
            return None
        return self._levels.book(Verdict.SUSPECT if self._pending else self._verdict)

    def _is_newer(self, snapshot: BookMessage) -> bool:
        """Return whether a snapshot is of a later state, or ends a break."""
        assert self._levels is not None
        if self._pending:
            return snapshot.time >= self._levels.time
        return (snapshot.last_id or 0) > (self._levels.last_id or 0)

    def _advance(self) -> None:
        """Apply what joins, and forget what is stale."""
        if self._levels is None:
            return
        waiting = sorted(self._pending.items(), key=lambda item: item[1].last_id or 0)
        progress = True
        while progress and waiting:
            progress, rest = False, []
            for key, message in waiting:
                if _is_stale(message, self._levels.last_id):
                    progress = True
                elif _joins(message, self._levels.last_id):
                    self._levels.apply(message)
                    self._applied.add(key)
                    progress = True
                else:
                    rest.append((key, message))
            waiting = rest
        self._pending = dict(waiting)


def _joins(message: BookMessage, last_id: int | None) -> bool:
    """Return whether a delta follows the state with an id; True where there are no ids to tell."""
    if last_id is None:
        return True
    if message.previous_id is not None:
        return message.previous_id == last_id
    return message.first_id is None or message.first_id <= last_id + 1


def _is_stale(message: BookMessage, last_id: int | None) -> bool:
    """Return whether the state with an id includes a delta: not one that names it as its predecessor, with any id."""
    if last_id is None or message.last_id is None or message.previous_id == last_id:
        return False
    return message.last_id <= last_id


def _worse(one: Verdict, other: Verdict) -> Verdict:
    return max(one, other, key=_SEVERITY.__getitem__)


@cache
def _factor(exponent: int) -> int | Fraction:
    power = exponent + SCALE
    return int(10**power) if power >= 0 else Fraction(1, 10**-power)


def _exact(units: int | Fraction) -> int:
    if isinstance(units, int):
        return units
    if units.denominator != 1:
        raise InexactLevel(f"a level is finer than 10^-{SCALE}")
    return int(units)
