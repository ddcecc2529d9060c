"""An order book rebuilt from its messages in Gold, and its best prices after each. Independent of Spark."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from k2.schemas.values import SCALE

_MOST_WAITING: Final = 2_000  # changes; the oldest are forgotten

Level = tuple[int, int]  # price and quantity, in units of 10**-12
Best = tuple[Level | None, Level | None]  # the best bid and ask
Row = Mapping[str, Any]


@dataclass(slots=True)
class RebuiltBook:
    """The book of one symbol on one connection. There is none until a whole snapshot came, and after a lost message.

    Changes without a book wait for a snapshot, which may be older than they are.
    """

    exists: bool = False
    last_id: int | None = None  # of the state
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    _parts: list[Row] = field(default_factory=list)  # of a snapshot that came so far
    _waiting: deque[Row] = field(default_factory=lambda: deque(maxlen=_MOST_WAITING))

    def apply(self, message: Row) -> None:
        """Apply a row of Gold. A snapshot counts when it is whole."""
        if message["kind"] == BookKind.SNAPSHOT.value:
            self._parts = [*(self._parts if message["part"] > 1 else ()), message]
            if message["part"] == message["parts"] == len(self._parts):
                self._replace(self._parts)
        elif self.exists and message["verdict"] == Verdict.VERIFIED.value:
            self._change(message)
        else:
            self.exists = False
            self._waiting.append(message)

    def _replace(self, parts: list[Row]) -> None:
        last_id = parts[-1]["last_id"]
        if self.exists and self.last_id is not None and last_id is not None and last_id < self.last_id:
            return  # the state is newer
        self.bids, self.asks, self.last_id = {}, {}, last_id
        for part in parts:
            self._set(part)
        self.exists = parts[-1]["verdict"] == Verdict.VERIFIED.value
        waiting, self._waiting = self._waiting, deque(maxlen=_MOST_WAITING)
        for message in waiting if last_id is not None else ():
            self._change(message)

    def _change(self, message: Row) -> None:
        if self.last_id is not None and message["first_id"] is not None:
            if message["last_id"] <= self.last_id:
                return  # the state contains it
            self.exists = self.exists and message["first_id"] <= self.last_id + 1
        self._set(message)
        self.last_id = message["last_id"]

    def _set(self, message: Row) -> None:
        scales = 10 ** (SCALE + message["price_exponent"]), 10 ** (SCALE + message["quantity_exponent"])
        for side, levels in ((self.bids, message["bids"]), (self.asks, message["asks"])):
            for price, quantity in levels:
                if quantity:
                    side[price * scales[0]] = quantity * scales[1]
                else:
                    side.pop(price * scales[0], None)

    @property
    def best(self) -> Best:
        """The best bid and ask; None for a side without levels."""
        bid, ask = max(self.bids, default=None), min(self.asks, default=None)
        return (
            None if bid is None else (bid, self.bids[bid]),
            None if ask is None else (ask, self.asks[ask]),
        )


def best_of(quote: Row) -> Best:
    """Return the best bid and ask of a row of quotes."""
    price, quantity = 10 ** (SCALE + quote["price_exponent"]), 10 ** (SCALE + quote["quantity_exponent"])

    def level(side: str) -> Level | None:
        units = quote[f"{side}_price"], quote[f"{side}_quantity"]
        return None if None in units else (units[0] * price, units[1] * quantity)

    return level("bid"), level("ask")


def compared(messages: Iterable[Row], quotes: Mapping[int, list[Row]]) -> Iterator[tuple[Row, Best]]:
    """Yield the quotes that have the number of a book's state, each with the best bid and ask of that state.

    `messages` are those of one symbol, ordered by connection and ordinal; `quotes` are those of the symbol by number.
    """
    books: dict[str, RebuiltBook] = {}
    for message in messages:
        book = books.setdefault(message["connection"], RebuiltBook())
        book.apply(message)
        if book.exists and message["kind"] == BookKind.DELTA.value and message["last_id"] == book.last_id:
            for quote in quotes.get(message["last_id"], ()):
                yield quote, book.best
