"""Seeded damage on the way from a simulated exchange: no record is ever verified while its book is not the exchange's.

Each seed loses, doubles, reorders, cuts and falsifies some frames. A verified record must stand for the book that the
exchange had at the record's time; and once nothing is damaged any more, the book must be whole and right again.
"""

import json
from dataclasses import dataclass, field
from random import Random

import pytest

from k2.schemas.records.book import BookUpdate
from k2.schemas.states import Verdict
from tests.unit.ingest.books.feed import ALL, Feed, records

MOVES, QUIET = 60, 12
KINDS = ("lose", "double", "hold", "cut", "cross", "number", "checksum", "again")
Levels = tuple[list[tuple[int, int]], list[tuple[int, int]]]


@dataclass
class Damage:
    """What happens to the frames of one seed."""

    rng: Random
    feed: Feed
    delayed: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    def on(self, frame: str) -> list[str]:
        """What arrives instead of a frame."""
        kind = self.rng.choice(("none",) * 14 + KINDS)
        self.done.add(kind)
        if kind in {"cross", "number", "checksum"}:
            return [self.changed(frame, kind)]
        if kind in {"hold", "again"}:
            self.delayed.append(frame)
        arrives = {
            "lose": [],
            "hold": [],
            "double": [frame, frame],
            "cut": [frame[: self.rng.randrange(1, len(frame))]],
        }
        frames = arrives.get(kind, [frame])
        if self.delayed and kind not in arrives and self.rng.random() < 0.5:
            frames.append(self.delayed.pop(self.rng.randrange(len(self.delayed))))
        return frames

    def changed(self, frame: str, kind: str) -> str:
        """A frame with a bid above all asks, or with another number or checksum."""
        message = json.loads(frame)
        data = message.get("data", message)
        item = data[0] if isinstance(data, list) else data
        if kind == "cross":
            level = ["70000.0", "1.0"]
            if "changes" in item:
                item["changes"].append(["buy", *level])
            elif "checksum" in item and "symbol" in item:
                item["bids"].append({"price": 70000.0, "qty": 1.0})
            else:
                item["bids" if "bids" in item else "b"].append(level)
        jump = self.rng.choice((-1_000_000, 1_000))  # ids that are forged so that they join prove nothing
        for name in {"number": ("U", "u", "seqId", "prevSeqId"), "checksum": ("checksum",)}.get(kind, ()):
            if item.get(name, 0) > 0:
                item[name] = max(2, item[name] + jump)
        return json.dumps(message)


class History:
    """One seeded history of damage at one exchange, judged after every frame."""

    def __init__(self, seed: int) -> None:
        self.rng, self.exchange = Random(seed), ALL[seed % len(ALL)]
        kraken = self.exchange == "kraken"
        self.feed = Feed(self.exchange, str(seed), depth=self.rng.choice((10, 25, 1_000)) if kraken else None)
        self.depth = 10 if kraken else 0  # that the verdict covers
        self.damage = Damage(self.rng, self.feed)
        self.truths: dict[object, Levels] = {}
        self.name = f"seed {seed}: {self.exchange}"

    def run(self) -> None:
        """Moves on with damage, then without any."""
        self.note()
        self.heal()
        for _ in range(MOVES):
            self.move(damaged=True)
        self.damage.delayed.clear()
        self.feed.now += 120_000_000  # all pauses are over
        for _ in range(QUIET):
            self.move(damaged=False)
        if self.exchange != "coinbase":  # which cannot tell
            assert self.feed.read.whole, f"{self.name} is not whole again"
            assert self.read() == self.truth(), f"{self.name} is not right again"

    def move(self, *, damaged: bool) -> None:
        """One change of the book, and what arrives of it."""
        frames = self.feed.frames()
        self.note()
        self.feed.now += self.rng.choice((0, 100_000, 3_000_000))
        for frame in frames:
            for received in self.damage.on(frame) if damaged else [frame]:
                self.judge(records(self.feed.receive(received)))
        if not damaged or self.rng.random() < 0.5:
            self.heal()

    def heal(self) -> None:
        """Does what is necessary, and judges that too."""
        before = len(self.feed.events)
        self.feed.heal()
        self.judge(records(self.feed.events[before:]))

    def note(self) -> None:
        """Remembers the book."""
        book = self.feed.book
        self.truths[book.time // 1000] = self.truths["id", book.update] = self.truth()

    def judge(self, made: list[BookUpdate]) -> None:
        """A verified record stands for the book that the exchange had then."""
        if not made or made[-1].verdict is not Verdict.VERIFIED or not self.feed.read.whole:
            return
        time, number = made[-1].exchange_timestamp, made[-1].last_id
        truth = self.truths[("id", number) if time is None else time // 1000]
        assert self.read() == truth, f"{self.name}: record {made[-1].ordinal} is verified and wrong"

    def truth(self) -> Levels:
        """The exchange's book."""
        bids, asks = self.feed.book.levels(self.depth)
        return list(bids), list(asks)

    def read(self) -> Levels:
        """The book of the records."""
        bids, asks = sorted(self.feed.read.bids.items(), reverse=True), sorted(self.feed.read.asks.items())
        return bids[: self.depth or None], asks[: self.depth or None]


def run(seed: int) -> set[str]:
    """Runs one history; returns the kinds of damage that it had."""
    history = History(seed)
    history.run()
    return history.damage.done


def test_no_record_is_verified_while_its_book_is_wrong():
    kinds = set().union(*[run(seed) for seed in range(40)])
    assert len(kinds) == 9


@pytest.mark.slow
@pytest.mark.parametrize("first", range(40, 2_000, 140))
def test_many_histories(first: int):
    for seed in range(first, min(first + 140, 2_000)):
        run(seed)
