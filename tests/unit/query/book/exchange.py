"""An independent model of an exchange's book: its true states, and what connections that lose messages store of it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from k2.query.book.reconstruction import BookMessage
from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from tests.unit.query.conftest import NOON

STEP = timedelta(milliseconds=100)
_UNIT = 10**12


@dataclass
class Exchange:
    """The true book after each of `count` messages; message n has the ids above those of its predecessor."""

    rng: Random
    count: int
    linked: bool = False  # messages name their predecessor's last id, which may be any number
    changes: list[tuple[dict[int, int], dict[int, int]]] = field(default_factory=list)
    states: list[tuple[dict[int, int], dict[int, int]]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        bids, asks = {100 - n: n + 1 for n in range(4)}, {110 + n: n + 1 for n in range(4)}
        last = 50
        for _ in range(self.count + 1):
            self.states.append((dict(bids), dict(asks)))
            self.ids.append(last)
            change: tuple[dict[int, int], dict[int, int]] = ({}, {})
            for side, low, into in ((bids, 90, change[0]), (asks, 102, change[1])):
                for price in self.rng.sample(range(low, low + 12), self.rng.randint(0, 4)):
                    quantity = self.rng.randint(0, 3)
                    into[price] = quantity
                    if quantity:
                        side[price] = quantity
                    else:
                        side.pop(price, None)
            self.changes.append(change)
            last += self.rng.randint(1, 9)

    def truth(self, instant: datetime) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
        """Return the levels at an instant, best first, in units of 10**-12."""
        bids, asks = self.states[min(self.count, int((instant - NOON) / STEP))]
        return (
            tuple((price * _UNIT // 100, bids[price] * _UNIT // 1000) for price in sorted(bids, reverse=True)),
            tuple((price * _UNIT // 100, asks[price] * _UNIT // 1000) for price in sorted(asks)),
        )

    def rows(
        self, connection: str, snapshots: Collection[int], lost: Collection[int], *, parts: int = 2, ids: bool = True
    ) -> Iterator[BookMessage]:
        """Yield what a connection stores: snapshots after some messages, deltas without those that it lost.

        After a loss it is suspect until the next snapshot. Powers of ten differ from row to row.
        """
        ordinal, suspect = 0, True
        for number in range(self.count + 1):
            if number and number not in lost:
                ordinal += 1
                bids, asks = self.changes[number - 1]
                yield self._row(number, connection, ordinal, suspect, bids, asks, ids=ids, kind=BookKind.DELTA)
            suspect |= number in lost
            if number in snapshots:
                suspect = False
                for part in range(1, parts + 1):
                    ordinal += 1
                    bids, asks = (
                        {p: q for p, q in side.items() if p % parts == part - 1} for side in self.states[number]
                    )
                    yield self._row(
                        number, connection, ordinal, suspect, bids, asks, ids=ids, kind=BookKind.SNAPSHOT,
                        part=part, parts=parts,
                    )  # fmt: skip

    def _row(
        self, number: int, connection: str, ordinal: int, suspect: bool, bids: dict[int, int], asks: dict[int, int], *,
        ids: bool, kind: BookKind, part: int = 1, parts: int = 1,
    ) -> BookMessage:  # fmt: skip
        finer = ordinal % 2
        delta = kind is BookKind.DELTA
        return BookMessage(
            time=NOON + number * STEP,
            kind=kind,
            part=part,
            parts=parts,
            first_id=self.ids[number - 1] + 1 if ids and delta and not self.linked else None,
            last_id=self.ids[number] if ids else None,
            previous_id=self.ids[number - 1] if ids and delta and self.linked else None,
            bids=tuple((price * 10**finer, quantity) for price, quantity in bids.items()),
            asks=tuple((price * 10**finer, quantity) for price, quantity in asks.items()),
            price_exponent=-2 - finer,
            quantity_exponent=-3,
            connection=connection,
            ordinal=ordinal,
            verdict=Verdict.SUSPECT if suspect else Verdict.VERIFIED,
        )
