"""A simulated exchange that sends its book, and the adapter of one connection to it, with nothing between."""

from collections.abc import Iterator, Sequence
from itertools import count, groupby
from typing import Any

from k2.ingest.exchanges import adapter, venue
from k2.ingest.exchanges.base import Event, MalformedFrame, Resubscribe, SequencedRecord, StateSource
from k2.ingest.exchanges.base_venue import Client
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.market import Market, SimTrade
from k2.ingest.simulator.order_book import OrderBook, SimChange
from k2.schemas.channels import BOOK
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.book import BookUpdate
from tests.unit.ingest.books.reading import ReadBook

RECEIVED = 1_723_161_255_343_123
ALL = ("binance", "kraken", "coinbase", "bybit", "okx")
IN_BAND = ALL[1:]


def batches(seed: str, pair: Any) -> Iterator[list[SimTrade]]:
    """The trades of a market, by moment, without end."""
    market = Market(pair, seed, 50.0, RECEIVED)
    trades = (trade for second in count(1) for trade in market.until(RECEIVED + second * 1_000_000))
    for _, moment in groupby(trades, key=lambda trade: trade.time):
        yield list(moment)


class Feed:
    """A simulated exchange and the adapter of one connection to it, without anything between."""

    def __init__(self, exchange: str, seed: str = "7", depth: int | None = None, traded: bool = True) -> None:
        simulated = venue(exchange)
        self.exchange = exchange
        self.pair = pair_of(EXCHANGES[exchange], simulated.default_symbols[0])
        self.side = simulated([self.pair])
        self.history = History(seed)
        self.moments = batches(seed, self.pair)
        self.events: list[Event] = []
        self.read = ReadBook()
        self.now = RECEIVED
        self.adapter: Any = None
        self.depth = depth
        if traded:
            self.move()
        self.connect()

    def connect(self) -> None:
        """Opens a connection, and subscribes."""
        self.adapter = adapter(self.exchange, BOOK, [self.pair], depth=self.depth or 0)
        self.client = Client(protocol=self.adapter.path or "/")
        self.read = ReadBook()
        self.request(self.adapter.subscribe([self.pair], 1))

    def request(self, message: bytes) -> list[Event]:
        """Sends a request; returns the events of the answers."""
        answers = self.side.handle(message.decode(), self.client, self.history, 0.0)
        return [event for answer in answers for event in self.receive(str(answer))]

    def move(self) -> SimChange:
        """Lets the market move on."""
        batch = next(self.moments)
        for trade in batch:
            self.history.add(trade)
        self.now = max(self.now, batch[-1].time) + 5_000
        return self.history.books.follow(batch)

    def frames(self) -> list[str]:
        """Lets the market move on; returns what the exchange sends of it."""
        return list(self.side.book_frames(self.move()))

    def step(self, count: int = 1) -> None:
        """Lets the market move on, undamaged."""
        for _ in range(count):
            for frame in self.frames():
                self.receive(frame)
            self.heal()

    def receive(self, frame: str) -> list[Event]:
        """Takes a frame. What it makes necessary is done by `heal`."""
        try:
            events = list(self.adapter.parse(frame.encode(), self.now))
        except MalformedFrame:
            return []
        return self.take(events)

    def take(self, events: list[Event]) -> list[Event]:
        """Notes events, and reads their records."""
        self.events += events
        for record in records(events):
            self.read.take(record)
        return events

    def heal(self) -> None:
        """Subscribes again what is lost, and gives the states that are lacking."""
        wants = any(isinstance(event, Resubscribe) for event in self.events[-20:])
        self.events = [event for event in self.events if not isinstance(event, Resubscribe)]
        if wants:
            self.request(self.adapter.unsubscribe([self.pair], 2))
            self.request(self.adapter.subscribe([self.pair], 3))
        if isinstance(self.adapter, StateSource):
            for pair in self.adapter.lacking(self.now):
                request = self.adapter.state_request(pair, self.now)
                reply = self.side.rest(request.path, request.params, self.history, self.now)
                self.take(list(self.adapter.parse_state(pair, reply.body, self.now)))

    @property
    def book(self) -> OrderBook:
        """What is true."""
        return self.history.books.books[self.pair.raw_symbol]

    def equals(self) -> bool:
        """Whether the rebuilt book is the exchange's, as far as the exchange's proofs reach."""
        depth = getattr(self.adapter, "truncates", False) and self.adapter.depth
        bids, asks = self.book.levels(min(depth, 10) if depth else 0)
        read = sorted(self.read.bids.items(), reverse=True), sorted(self.read.asks.items())
        if depth:
            read = read[0][:10], read[1][:10]
        return read == (bids, asks)

    @property
    def last(self) -> BookUpdate:
        """The newest record."""
        return records(self.events)[-1]


def records(events: Sequence[Event]) -> list[BookUpdate]:
    return [event.record for event in events if isinstance(event, SequencedRecord)]  # type: ignore[misc]
