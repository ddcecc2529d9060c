"""The simulator's faults of order books: each is sent, and no record is ever verified while its book is wrong."""

import json

import pytest
from aiohttp.web import WebSocketResponse

from k2.ingest.exchanges.base_venue import Client
from k2.ingest.simulator.books.damage import BookDamage
from k2.ingest.simulator.books.feed import BookFeed
from k2.ingest.simulator.connections import Connection
from k2.ingest.simulator.fault_injector import FaultInjector
from k2.ingest.simulator.faults import KINDS, parse
from k2.schemas.records.book import BookKind, BookUpdate
from k2.schemas.states import Verdict
from tests.unit.ingest.books.feed import ALL, Feed, records
from tests.unit.ingest.books.test_damage import History

FAULTS = [kind for kind in KINDS if kind.startswith("book-")]
MOVES = 10
SOMETIMES = {("coinbase", "book-drop"), ("coinbase", "book-swap")}  # where the book happens to cross
# What hurts nobody: levels or a state that are sent again, numbers or a checksum where there are none.
UNNOTICED = {
    *((exchange, "book-repeat") for exchange in ("binance", "kraken", "coinbase")),
    *((exchange, "book-reset") for exchange in ("kraken", "coinbase", "bybit", "okx")),
    *((exchange, "book-jump") for exchange in ("kraken", "coinbase")),
    *((exchange, "book-checksum") for exchange in ALL if exchange != "kraken"),
}


class Disturbed(History):
    """One history of a fault, judged after every frame."""

    def __init__(self, exchange: str, kind: str, seed: int) -> None:
        super().__init__(ALL.index(exchange) + len(ALL) * seed)
        self.kind = kind
        self.injector = FaultInjector(choose=lambda target: target or self.feed.pair.raw_symbol)
        self.books = BookDamage(self.feed.side, self.feed.history.books, self.injector)
        self.made: list[BookUpdate] = []

    def run(self) -> None:
        """Has the fault twice, each time with what follows it."""
        self.note()
        self.heal()
        for _ in range(2):
            for _ in range(self.rng.randint(1, 4)):
                self.move(damaged=False)
            self.begin()
            for _ in range(MOVES):
                self.move(damaged=True)
            self.feed.now += 120_000_000
            self.quiet(MOVES)

    def begin(self) -> None:
        """Begins the fault, as the server does."""
        self.injector.add(parse(self.kind))
        for begun in self.injector.start_due(1.0):
            if begun.kind == "book-jump":
                self.books.jump(int(begun.amount), begun.target)
            if begun.kind == "book-reset":
                for _, frames in self.books.reset(begun.target):
                    self.note()
                    for frame in frames:
                        self.judge(records(self.feed.receive(frame)))

    def move(self, *, damaged: bool) -> None:
        """One change of the book, and what arrives of it."""
        change = self.feed.move()
        self.note()
        self.feed.now += self.rng.choice((0, 100_000, 3_000_000))
        for frame in self.books.frames(change):
            self.judge(records(self.feed.receive(frame)))
        if not damaged or self.rng.random() < 0.5:
            self.heal()

    def judge(self, made: list[BookUpdate]) -> None:
        """Also keeps the records."""
        self.made += made
        super().judge(made)

    def quiet(self, count: int) -> None:
        """Nothing is wrong any more: the book becomes whole and right."""
        for _ in range(count):
            self.move(damaged=False)
        if self.exchange != "coinbase":  # which cannot tell
            assert self.feed.read.whole, f"{self.name} is not whole again"
            assert self.read() == self.truth(), f"{self.name} is not right again"


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("exchange", ALL)
def test_a_fault_is_noticed_where_it_can_be_and_nothing_wrong_is_verified(exchange: str, kind: str) -> None:
    for seed in range(3):
        history = Disturbed(exchange, kind, seed)
        history.run()
        later = [record for record in history.made if record.kind is BookKind.DELTA][1:]  # before it may be no state
        noticed = any(record.verdict is Verdict.SUSPECT for record in later)
        assert noticed is ((exchange, kind) not in UNNOTICED) or (exchange, kind) in SOMETIMES, seed


def test_faults_are_of_the_symbol_that_they_name_and_numbers_jump() -> None:
    feed = Feed("binance")
    injector = FaultInjector([parse("book-drop=1,ETHUSDT"), parse("book-repeat=1,BTCUSDT")])
    injector.start_due(1.0)
    damage = BookDamage(feed.side, feed.history.books, injector)
    first, second = damage.frames(feed.move())
    assert first == second
    before = json.loads(damage.frames(feed.move())[0])["data"]["u"]
    damage.jump(1_000, "ETHUSDT")
    damage.jump(500, "")
    assert json.loads(damage.frames(feed.move())[0])["data"]["U"] == before + 501


def test_the_book_itself_stays_as_it_is() -> None:
    feed = Feed("kraken")
    injector = FaultInjector([parse("book-cross=1")])
    injector.start_due(1.0)
    damage = BookDamage(feed.side, feed.history.books, injector)
    change = feed.move()
    before = feed.book.levels()
    damage.frames(change)
    assert feed.book.levels() == before


def test_subscribers_are_sent_the_damage_and_what_the_exchange_sends_of_a_reset() -> None:
    feed = Feed("bybit")
    subscriber, other = (Connection(WebSocketResponse(), Client()) for _ in range(2))
    subscriber.client.books.add("BTCUSDT")
    injector = FaultInjector([parse("book-repeat=1")])
    injector.start_due(1.0)
    books = BookFeed(feed.side, feed.history.books, injector, [subscriber, other])
    books.send(feed.move())
    books.begin["book-jump"](parse("book-jump=1000"))
    books.send(feed.move())
    books.begin["book-reset"](parse("book-reset"))
    books.send(feed.move())
    sent = [json.loads(str(subscriber.queue.get_nowait()))["data"]["u"] for _ in range(subscriber.queue.qsize())]
    assert [number - sent[0] for number in sent[:3]] == [0, 0, 1001]
    assert sent[3:] == [1, 2]
    assert other.queue.empty()
