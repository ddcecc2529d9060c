"""Records of order books: the messages of one connection, numbered, with exact integers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from k2.ingest.books.state import OrderBook
from k2.ingest.exchanges.integers import Places
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.book import BookKind, BookUpdate, Level
from k2.schemas.states import Verdict
from k2.schemas.values import SCALE, InexactValue

MOST_LEVELS: Final = 4_000  # in a record: some 80 KB, far below what Kafka takes

Texts = Sequence[Sequence[str]]  # levels as exchanges send them: price, quantity, and what else they add


@dataclass(frozen=True, slots=True)
class Message:
    """The levels of one message, as integers of the record and in units of 10**-12."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    price_exponent: int
    quantity_exponent: int

    @property
    def scaled_bids(self) -> list[Level]:
        """The bids in units of 10**-12."""
        return self._scaled(self.bids)

    @property
    def scaled_asks(self) -> list[Level]:
        """The asks in units of 10**-12."""
        return self._scaled(self.asks)

    def with_deletions(self, bids: Sequence[int], asks: Sequence[int]) -> "Message":
        """Return the message with deletions of levels at its end, by their prices in units of 10**-12.

        Raises `InexactValue` if one is no multiple of the record's unit.
        """
        unit = 10 ** (SCALE + self.price_exponent)
        if any(price % unit for price in (*bids, *asks)):
            raise InexactValue("the prices of a message and of the levels that it displaces share no power of ten")
        own_bids, own_asks = (tuple((price // unit, 0) for price in prices) for prices in (bids, asks))
        return replace(self, bids=self.bids + own_bids, asks=self.asks + own_asks)

    def _scaled(self, levels: Sequence[Level]) -> list[Level]:
        prices, quantities = 10 ** (SCALE + self.price_exponent), 10 ** (SCALE + self.quantity_exponent)
        return [(price * prices, quantity * quantities) for price, quantity in levels]


@dataclass(frozen=True, slots=True)
class Ids:
    """The exchange's ids of a message, None where it sends none."""

    first: int | None = None
    last: int | None = None
    previous: int | None = None


class BookRecords:
    """Makes the records of one connection."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._connection = uuid4().hex[:16]
        self._ordinal = 0
        self._places: dict[str, tuple[Places, Places]] = {}

    def message(self, symbol: str, bids: Texts, asks: Texts) -> Message:
        """Parse the levels of a message.

        Raises `InexactValue` if a number is not plain or negative, a price is 0, or one does not fit 64 bits or the
        12 decimals of a trade.
        """
        prices, quantities = self._places.setdefault(symbol, (Places(), Places()))
        levels = [*bids, *asks]
        try:
            price_texts, quantity_texts = [level[0] for level in levels], [level[1] for level in levels]
        except IndexError as error:
            raise InexactValue("a level without price or quantity") from error
        price_values, price_exponent = prices.integers(*price_texts)
        quantity_values, quantity_exponent = quantities.integers(*quantity_texts)
        if min(price_exponent, quantity_exponent) < -SCALE:
            raise InexactValue(f"numbers with more than {SCALE} decimals")
        if 0 in price_values:
            raise InexactValue("a level with price 0")
        made = tuple(zip(price_values, quantity_values, strict=True))
        return Message(made[: len(bids)], made[len(bids) :], price_exponent, quantity_exponent)

    def state(self, symbol: str, book: OrderBook) -> Message:
        """Return all levels of a book, the best first. Raises `InexactValue` if they share no power of ten."""
        prices, quantities = self._places.setdefault(symbol, (Places(), Places()))
        bids, asks = book.top(len(book))
        levels = [*bids, *asks]
        price_values, price_exponent = prices.scaled_integers([price for price, _ in levels], SCALE)
        quantity_values, quantity_exponent = quantities.scaled_integers([quantity for _, quantity in levels], SCALE)
        made = tuple(zip(price_values, quantity_values, strict=True))
        return Message(made[: len(bids)], made[len(bids) :], price_exponent, quantity_exponent)

    def delta(
        self, pair: Pair, message: Message, ids: Ids, verdict: Verdict, received: int, time: int | None
    ) -> BookUpdate:
        """Return the record of a message with changed levels. Times are UTC microseconds."""
        return self._record(pair, BookKind.DELTA, message, ids, verdict, received, time)

    def snapshot(
        self, pair: Pair, message: Message, ids: Ids, verdict: Verdict, received: int, time: int | None
    ) -> list[BookUpdate]:
        """Return the records of a snapshot: one, or the parts of a large one."""
        pieces = _pieces(message)
        return [
            self._record(pair, BookKind.SNAPSHOT, piece, ids, verdict, received, time, number, len(pieces))
            for number, piece in enumerate(pieces, 1)
        ]

    def _record(
        self,
        pair: Pair,
        kind: BookKind,
        message: Message,
        ids: Ids,
        verdict: Verdict,
        received: int,
        time: int | None,
        part: int = 1,
        parts: int = 1,
    ) -> BookUpdate:
        self._ordinal += 1
        return BookUpdate(
            pair.symbol, self._label, time, received, kind, message.bids, message.asks, message.price_exponent,
            message.quantity_exponent, self._connection, self._ordinal, verdict, ids.first, ids.last, ids.previous,
            part, parts,
        )  # fmt: skip


def _pieces(message: Message) -> list[Message]:
    """Split a message into parts of at most `MOST_LEVELS` levels."""
    count = max(1, -(-(len(message.bids) + len(message.asks)) // MOST_LEVELS))
    levels = [*((True, level) for level in message.bids), *((False, level) for level in message.asks)]
    pieces = []
    for number in range(count):
        some = levels[number * MOST_LEVELS : (number + 1) * MOST_LEVELS]
        bids = tuple(level for is_bid, level in some if is_bid)
        asks = tuple(level for is_bid, level in some if not is_bid)
        pieces.append(Message(bids, asks, message.price_exponent, message.quantity_exponent))
    return pieces
